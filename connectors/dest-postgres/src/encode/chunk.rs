//! Many rows at once, column by column. First the size of every row is found, which gives each its place in the buffer; then
//! each column writes its fields of all rows in a loop that knows the type: nothing is decided value by value.
//!
//! A value that can't be carried ends the attempt without a trace. The rows are then written one by one, which names the first
//! faulty one.

use super::cell::CellFault;
use super::column::{Column, EPOCH_DAYS, EPOCH_MICROS, NULL_FIELD, Scale, TextForm, Values};
use super::numeric;
use arrow_buffer::{ArrowNativeType, NullBuffer};

/// Rows put together at a time. Their places stay in the processor's nearest cache.
pub(super) const ROWS: usize = 256;
/// Fields that are made before their places are known may take so many bytes per column and chunk.
const HELD_BYTES: usize = 1 << 20;

/// Room that is used again from chunk to chunk.
#[derive(Default)]
pub(super) struct Scratch {
    /// The size of each row, then where its next field goes.
    places: Vec<usize>,
    held: Vec<Held>,
}

/// Whole fields of one column, made before their places are known.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Instead of both: fields of short numbers and their lengths.
    short: Vec<([u8; numeric::SHORT_FIELD], usize)>,
}

/// Appends rows from `from` on, at most `rows` of them and none beyond the one that fills `out` up to `target` bytes. Gives
/// their number: 0 when one of them can't be carried.
pub(super) fn append(
    columns: &[Column<'_>],
    count: [u8; 2],
    (from, mut rows): (usize, usize),
    target: usize,
    out: &mut Vec<u8>,
    scratch: &mut Scratch,
) -> usize {
    let Scratch { places, held } = scratch;
    held.resize_with(columns.len(), Held::default);
    for (column, held) in columns.iter().zip(held.iter_mut()) {
        match column.hold(from, rows, held) {
            Ok(made) => rows = rows.min(made),
            Err(_) => return 0,
        }
    }
    let same: usize = columns.iter().map(Column::same_size).sum();
    places.clear();
    places.resize(rows, count.len() + same);
    columns.iter().zip(held.iter()).for_each(|(column, held)| column.add_sizes(from, held, places));
    let mut end = out.len();
    let mut taken = 0;
    for place in places.iter_mut() {
        if end >= target {
            break;
        }
        end += std::mem::replace(place, end);
        taken += 1;
    }
    places.truncate(taken);
    let start = out.len();
    out.resize(end, 0);
    for place in places.iter_mut() {
        put(out, *place, &count);
        *place += count.len();
    }
    for (column, held) in columns.iter().zip(held.iter()) {
        if column.place(from, held, places, out).is_err() {
            out.truncate(start);
            return 0;
        }
    }
    taken
}

#[inline]
fn put<const N: usize>(out: &mut [u8], at: usize, bytes: &[u8; N]) {
    out[at..at + N].copy_from_slice(bytes);
}

/// `to` becomes `from`, which is as long. Short copies of a length known only at run time are function calls into the host
/// in WebAssembly, far dearer than two loads and stores that may overlap.
#[inline]
fn copy(to: &mut [u8], from: &[u8]) {
    #[inline]
    fn both_ends<const N: usize>(to: &mut [u8], from: &[u8]) -> bool {
        if let (Some(head), Some(tail)) = (from.first_chunk::<N>(), from.last_chunk::<N>())
            && let Some(slot) = to.first_chunk_mut::<N>()
        {
            *slot = *head;
            if let Some(slot) = to.last_chunk_mut::<N>() {
                *slot = *tail;
            }
            return true;
        }
        false
    }
    let done = match from.len() {
        0 => true,
        1 => both_ends::<1>(to, from),
        2..4 => both_ends::<2>(to, from),
        4..8 => both_ends::<4>(to, from),
        8..16 => both_ends::<8>(to, from),
        16..=32 => both_ends::<16>(to, from),
        33..=64 => both_ends::<32>(to, from),
        _ => false,
    };
    if !done {
        to.copy_from_slice(from);
    }
}

/// Where callers differ: a column without NULLs is not asked for them.
#[inline]
fn each<T: Copy, const N: usize>(
    values: &[T],
    (from, nulls): (usize, Option<&NullBuffer>),
    places: &mut [usize],
    out: &mut [u8],
    encode: impl Fn(T) -> Result<[u8; N], CellFault>,
) -> Result<(), CellFault> {
    let length = (N as i32).to_be_bytes();
    let write = |place: &mut usize, out: &mut [u8], value: T| {
        let bytes = encode(value)?;
        let slot = &mut out[*place..*place + 4 + N];
        slot[..4].copy_from_slice(&length);
        slot[4..].copy_from_slice(&bytes);
        *place += 4 + N;
        Ok(())
    };
    let values = &values[from..];
    match nulls {
        None => places.iter_mut().zip(values).try_for_each(|(place, value)| write(place, out, *value)),
        Some(nulls) => {
            for (index, (place, value)) in places.iter_mut().zip(values).enumerate() {
                if nulls.is_null(from + index) {
                    put(out, *place, &NULL_FIELD);
                    *place += NULL_FIELD.len();
                } else {
                    write(place, out, *value)?;
                }
            }
            Ok(())
        }
    }
}

/// Length, version and bytes of values between `ends`.
fn each_text<O: ArrowNativeType>(
    ends: &[O],
    bytes: &[u8],
    version: Option<u8>,
    (from, nulls): (usize, Option<&NullBuffer>),
    places: &mut [usize],
    out: &mut [u8],
) -> Result<(), CellFault> {
    let ends = &ends[from..=from + places.len()];
    for (index, (place, ends)) in places.iter_mut().zip(ends.windows(2)).enumerate() {
        if nulls.is_some_and(|nulls| nulls.is_null(from + index)) {
            put(out, *place, &NULL_FIELD);
            *place += NULL_FIELD.len();
            continue;
        }
        let value = &bytes[ends[0].as_usize()..ends[1].as_usize()];
        let extra = usize::from(version.is_some());
        let length = i32::try_from(value.len() + extra).map_err(|_| CellFault::TooLong)?;
        let slot = &mut out[*place..*place + 4 + extra + value.len()];
        slot[..4].copy_from_slice(&length.to_be_bytes());
        let slot = match version {
            None => &mut slot[4..],
            Some(version) => {
                slot[4] = version;
                &mut slot[5..]
            }
        };
        copy(slot, value);
        *place += 4 + extra + value.len();
    }
    Ok(())
}

fn add_texts<O: ArrowNativeType>(ends: &[O], extra: usize, (from, nulls): (usize, Option<&NullBuffer>), sizes: &mut [usize]) {
    let ends = &ends[from..=from + sizes.len()];
    for (index, (size, ends)) in sizes.iter_mut().zip(ends.windows(2)).enumerate() {
        *size += match nulls {
            Some(nulls) if nulls.is_null(from + index) => NULL_FIELD.len(),
            _ => 4 + extra + (ends[1].as_usize() - ends[0].as_usize()),
        };
    }
}

/// How a column takes part.
enum Part {
    /// Every value has so many bytes.
    Fixed(usize),
    /// The lengths stand in the array.
    Text,
    /// Fields are made first.
    Held,
}

impl Column<'_> {
    fn part(&self) -> Part {
        match &self.values {
            Values::Null => Part::Fixed(0),
            Values::Bool(_) => Part::Fixed(1),
            Values::Int2(_) => Part::Fixed(2),
            Values::Int4(_) | Values::Float4(_) | Values::Date(..) => Part::Fixed(4),
            Values::Int8(_) | Values::Float8(_) | Values::Timestamp(..) | Values::Time64(..) | Values::Int4AsInt8(_) => {
                Part::Fixed(8)
            }
            Values::FixedBytes(16, _) => Part::Fixed(16),
            Values::Text(.., TextForm { may_hold_nul: false, .. })
            | Values::LargeText(.., TextForm { may_hold_nul: false, .. })
            | Values::Bytes(..)
            | Values::LargeBytes(..) => Part::Text,
            _ => Part::Held,
        }
    }

    fn all_null(&self) -> bool {
        matches!(self.values, Values::Null)
    }

    /// Bytes of this column's field, where they are the same in every row.
    fn same_size(&self) -> usize {
        match self.part() {
            Part::Fixed(width) if self.nulls.is_none() || self.all_null() => 4 + width,
            Part::Fixed(_) | Part::Text | Part::Held => 0,
        }
    }

    /// Makes the fields whose sizes can't be told otherwise; says of how many rows.
    fn hold(&self, from: usize, rows: usize, held: &mut Held) -> Result<usize, CellFault> {
        let Part::Held = self.part() else { return Ok(rows) };
        let Held { bytes, ends, short } = held;
        bytes.clear();
        ends.clear();
        short.clear();
        if let Values::Decimal128(values, scale) = &self.values
            && let Some(shortener) = numeric::Short::new(*scale)
        {
            // Under a NULL lies any number.
            let fields = values[from..from + rows].iter().map_while(|value| shortener.field(*value));
            short.extend(fields);
            if short.len() == rows {
                if let Some(nulls) = self.nulls {
                    let null = |index: &usize| nulls.is_null(from + index);
                    (0..rows).filter(null).for_each(|index| {
                        short[index].0[..4].copy_from_slice(&NULL_FIELD);
                        short[index].1 = NULL_FIELD.len();
                    });
                }
                return Ok(rows);
            }
            short.clear();
        }
        // One large value must not pin its room.
        bytes.shrink_to(HELD_BYTES);
        for row in from..from + rows {
            self.write(row, bytes)?;
            ends.push(bytes.len());
            if bytes.len() >= HELD_BYTES {
                break;
            }
        }
        Ok(ends.len())
    }

    fn add_sizes(&self, from: usize, held: &Held, sizes: &mut [usize]) {
        let at = (from, self.nulls);
        match (self.part(), &self.values) {
            (Part::Fixed(width), _) => {
                let Some(nulls) = self.nulls.filter(|_| !self.all_null()) else { return };
                for (index, size) in sizes.iter_mut().enumerate() {
                    *size += if nulls.is_null(from + index) { 4 } else { 4 + width };
                }
            }
            (Part::Text, Values::Text(ends, _, form)) => add_texts(ends, usize::from(form.version.is_some()), at, sizes),
            (Part::Text, Values::LargeText(ends, _, form)) => add_texts(ends, usize::from(form.version.is_some()), at, sizes),
            (Part::Text, Values::Bytes(ends, _)) => add_texts(ends, 0, at, sizes),
            (Part::Text, Values::LargeBytes(ends, _)) => add_texts(ends, 0, at, sizes),
            (Part::Text | Part::Held, _) => {
                sizes.iter_mut().zip(&held.short).for_each(|(size, (_, length))| *size += length);
                let mut start = 0;
                for (size, end) in sizes.iter_mut().zip(&held.ends) {
                    *size += end - start;
                    start = *end;
                }
            }
        }
    }

    /// Writes the fields of all rows to their places, and moves those on.
    fn place(&self, from: usize, held: &Held, places: &mut [usize], out: &mut [u8]) -> Result<(), CellFault> {
        let at = (from, self.nulls);
        match &self.values {
            Values::Null => {
                for place in places {
                    put(out, *place, &NULL_FIELD);
                    *place += NULL_FIELD.len();
                }
                Ok(())
            }
            Values::Bool(values) => {
                for (index, place) in places.iter_mut().enumerate() {
                    if self.nulls.is_some_and(|nulls| nulls.is_null(from + index)) {
                        put(out, *place, &NULL_FIELD);
                        *place += NULL_FIELD.len();
                    } else {
                        put(out, *place, &[0, 0, 0, 1, u8::from(values.value(from + index))]);
                        *place += 5;
                    }
                }
                Ok(())
            }
            Values::Int2(values) => each(values, at, places, out, |value| Ok(value.to_be_bytes())),
            Values::Int4(values) => each(values, at, places, out, |value| Ok(value.to_be_bytes())),
            Values::Int8(values) => each(values, at, places, out, |value| Ok(value.to_be_bytes())),
            Values::Int4AsInt8(values) => each(values, at, places, out, |value| Ok(i64::from(value).to_be_bytes())),
            Values::Float4(values) => each(values, at, places, out, |value| Ok(value.to_be_bytes())),
            Values::Float8(values) => each(values, at, places, out, |value| Ok(value.to_be_bytes())),
            Values::Date(values, origin) => {
                let postgres = origin.postgres;
                each(values, at, places, out, |days| match days {
                    infinite @ (i32::MAX | i32::MIN) if postgres => Ok(infinite.to_be_bytes()),
                    days => Ok(days.checked_sub(EPOCH_DAYS).ok_or(CellFault::OutOfRange)?.to_be_bytes()),
                })
            }
            Values::Timestamp(values, scale, origin) => {
                let (scale, postgres): (Scale, bool) = (*scale, origin.postgres);
                each(values, at, places, out, |moment| match moment {
                    infinite @ (i64::MAX | i64::MIN) if postgres => Ok(infinite.to_be_bytes()),
                    moment => Ok(scale.micros(moment)?.checked_sub(EPOCH_MICROS).ok_or(CellFault::OutOfRange)?.to_be_bytes()),
                })
            }
            Values::Time64(values, scale) => each(values, at, places, out, |time| Ok(scale.micros(time)?.to_be_bytes())),
            Values::FixedBytes(16, bytes) => {
                let (values, _) = bytes.as_chunks::<16>();
                each(values, at, places, out, Ok)
            }
            Values::Text(ends, bytes, TextForm { version, may_hold_nul: false }) => {
                each_text(ends, bytes, *version, at, places, out)
            }
            Values::LargeText(ends, bytes, TextForm { version, may_hold_nul: false }) => {
                each_text(ends, bytes, *version, at, places, out)
            }
            Values::Bytes(ends, bytes) => each_text(ends, bytes, None, at, places, out),
            Values::LargeBytes(ends, bytes) => each_text(ends, bytes, None, at, places, out),
            _ => {
                for (place, (field, length)) in places.iter_mut().zip(&held.short) {
                    let slot = &mut out[*place..*place + length];
                    // Only NULL is shorter.
                    match (slot.first_chunk_mut::<8>(), field.first_chunk::<8>()) {
                        (Some(slot), Some(field)) => *slot = *field,
                        _ => slot.copy_from_slice(&NULL_FIELD),
                    }
                    if *length > 8 {
                        copy(&mut slot[8..], &field[8..*length]);
                    }
                    *place += length;
                }
                let mut start = 0;
                for (place, end) in places.iter_mut().zip(&held.ends) {
                    let field = &held.bytes[start..*end];
                    copy(&mut out[*place..*place + field.len()], field);
                    *place += field.len();
                    start = *end;
                }
                Ok(())
            }
        }
    }
}
