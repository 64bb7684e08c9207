//! Why a single value can't be carried.

/// What is wrong with a value; its place is added by the caller, the value itself is never told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CellFault {
    /// Text with a NUL character.
    Nul,
    /// The type at the destination does not reach so far.
    OutOfRange,
    /// The type at the destination is coarser.
    NotExact,
    /// Text in a numeric column.
    NotANumber,
    /// Text that is not what the source's type looks like.
    NotItsText,
    /// Longer than a field of COPY can be.
    TooLong,
    /// The column has changed its type, and the table's can't hold this value.
    DoesNotFit,
}

impl CellFault {
    /// A stable code.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Nul => "nul_in_text",
            Self::OutOfRange => "value_out_of_range",
            Self::NotExact => "value_not_exact",
            Self::NotANumber => "not_a_number",
            Self::NotItsText => "not_of_its_type",
            Self::TooLong => "value_too_long",
            Self::DoesNotFit => "value_does_not_fit",
        }
    }

    /// In words, after "the value".
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Nul => "contains a NUL character, which PostgreSQL text can't hold",
            Self::OutOfRange => "is beyond the range of the column's type",
            Self::NotExact => "is finer than the column's type can hold",
            Self::NotANumber => "is not a number",
            Self::NotItsText => "is not written as values of its type are",
            Self::TooLong => "is longer than PostgreSQL takes",
            Self::DoesNotFit => "is not one that the type of the table's column can hold exactly",
        }
    }

    /// What a person can do.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::Nul => "remove NUL characters at the source, leave the column out with `columns:`, or carry it as bytes",
            Self::OutOfRange | Self::NotExact => "leave the column out with `columns:`, or make it text at the source",
            Self::NotANumber | Self::NotItsText => "correct the value at the source, or leave the column out with `columns:`",
            Self::TooLong => "leave the column out with `columns:`",
            Self::DoesNotFit => {
                "give the table's column the source's type, correct the value at the source, or set `type_change: null` under \
                 `schema_evolution`"
            }
        }
    }
}
