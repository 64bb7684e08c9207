//! Which of a server's words may be repeated. Its messages and hints quote row values in more places than one would think: not
//! only `invalid input syntax for type integer: "12x"`, but also `syntax error in tsquery: "…"` and `relation "…" does not exist`
//! for a text that is cast, and whatever a trigger's author puts into `RAISE`. So they are repeated where they can't, and
//! replaced by words of our own everywhere else.

use crate::error::ServerError;

/// How far a server's message and hint are to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// They name objects, settings and sessions.
    Whole,
    /// Only where they quote nothing.
    Unquoted,
    /// They may hold anything.
    Never,
}

/// Errors of classes that are not trusted otherwise, which speak of objects and never of values.
const ABOUT_OBJECTS: [&str; 17] = [
    "42501", // permission denied
    "42701", // duplicate column
    "42804", // types that do not match
    "42846", // types without a cast
    "42P06", // duplicate schema
    "42P07", // duplicate table
    "42P16", // invalid table definition
    "428C9", // GENERATED ALWAYS
    "54001", // statement too complex
    "54011", // too many columns
    "54023", // too many arguments
    "55000", // not in the state needed
    "55006", // in use
    "55P02", // setting can't be changed now
    "55P03", // lock not available
    "XX001", // data corrupted
    "XX002", // index corrupted
];

/// Whether code of users was at work: functions, triggers, procedures, remote servers. Such code can give its errors any
/// SQLSTATE, message, hint, and any name of a table. The server then tells in lines of context where it was. Of its own it
/// only says at which line of a COPY, tuple of a table or line of a JSON value it was.
pub(crate) fn in_user_code(error: &ServerError) -> bool {
    let starts = ["COPY ", "while ", "JSON data, "];
    let own = |line: &str| starts.iter().any(|start| line.starts_with(start)) || line == "parallel worker";
    error.context.as_deref().is_some_and(|context| !context.lines().all(own))
}

/// How far the words of an error go.
pub(crate) fn trust(error: &ServerError) -> Trust {
    if in_user_code(error) {
        return Trust::Never;
    }
    // Nothing has been read or written before the login is over.
    if error.during.is_some() || ABOUT_OBJECTS.contains(&error.sqlstate.as_str()) {
        return Trust::Whole;
    }
    match error.class() {
        // Transactions, statement names, authorization, savepoints, deadlocks, resources, cancellation, configuration files.
        "25" | "26" | "28" | "2B" | "3B" | "40" | "53" | "57" | "F0" => Trust::Whole,
        // A place in the statement means that it was refused as it was read, and our statements hold no values. Without one,
        // an expression may have failed at a value: a text that is cast to `regclass`, `tsquery` or an enum, a unit of
        // `date_trunc`, a connection's or file's name.
        "08" | "0A" | "3D" | "3F" | "42" | "54" | "55" | "58" => {
            if error.has_position {
                Trust::Whole
            } else {
                Trust::Unquoted
            }
        }
        // `22` quotes values as a rule, `23` in some messages, `44` and `21` speak of rows; `P0` is user code; `XX000` is what
        // extensions say when they say nothing better; `00` to `02` are notices, which RAISE makes too.
        _ => Trust::Never,
    }
}

/// Text without a quotation. In another language the marks are others, so that it must be plain ASCII.
fn unquoted(text: &str) -> bool {
    text.is_ascii() && !text.contains(['"', '\'', '`'])
}

/// Whether a message or hint of this error may be repeated.
pub(crate) fn may_show(error: &ServerError, text: &str) -> bool {
    match trust(error) {
        Trust::Whole => true,
        Trust::Unquoted => unquoted(text),
        Trust::Never => false,
    }
}

/// Whether the names of schema, table, column, type and constraint are names. The server fills them with nothing else; only
/// user code can.
pub(crate) fn names_are_names(error: &ServerError) -> bool {
    !in_user_code(error) && !matches!(error.class(), "" | "00" | "01" | "02" | "22" | "P0")
}

/// Our words for what has happened.
pub(crate) fn condition(sqlstate: &str) -> &'static str {
    match sqlstate {
        "22001" => "a text is too long for its column",
        "22003" => "a number is outside of its type's range",
        "22007" => "a text is no date or time",
        "22008" => "a date or time is outside of its type's range",
        "22012" => "a division by zero",
        "22021" | "22P05" => "a text has characters which the database's encoding lacks",
        "22023" => "a function was given a value it does not take",
        "22P02" => "a text is no value of its type",
        "22P03" => "a value's binary form does not fit its type",
        "23001" | "23503" => "a foreign key is violated",
        "23502" => "a NULL came for a NOT NULL column",
        "23505" => "a row repeats a unique key",
        "23514" => "a row violates a check constraint",
        "23P01" => "a row violates an exclusion constraint",
        "42601" => "a syntax error",
        "42703" => "a column does not exist",
        "42704" => "an object does not exist",
        "42883" => "a function does not exist",
        "42P01" => "a table does not exist",
        "55P04" => "a new enum value can't be used yet",
        _ => match sqlstate.get(..2).unwrap_or_default() {
            "00" | "01" | "02" => "a notice",
            "08" => "a connection of the server's own failed",
            "0A" => "the server does not support this",
            "21" => "a subquery gave more than one row",
            "22" => "a value can't be processed",
            "23" => "a row violates a constraint",
            "3D" => "a database does not exist",
            "3F" => "a schema does not exist",
            "42" => "the server refused the statement",
            "44" => "a row is outside of the view it is written to",
            "54" => "a limit of the server is exceeded",
            "55" => "an object is not in the state needed",
            "58" => "the server could not use a file of its own",
            "P0" => "code at the server (a trigger or function) raised an exception",
            "XX" => "an internal error of the server or of one of its extensions",
            _ => "the server reported an error",
        },
    }
}

/// `line 3, column total` of `COPY orders, line 3, column total: "12x"`.
pub(crate) fn place(error: &ServerError) -> Option<String> {
    if in_user_code(error) {
        return None;
    }
    let mut lines = error.context.as_deref()?.lines().filter(|line| line.starts_with("COPY "));
    // A second one would be part of a value.
    let (Some(line), None) = (lines.next(), lines.next()) else { return None };
    let (_, after) = line.split_once(", line ")?;
    let digits = after.len() - after.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
    let (number, rest) = after.split_at(digits);
    if number.is_empty() {
        return None;
    }
    let column = rest.strip_prefix(", column ").map(|rest| rest.split_once(": ").map_or(rest, |(name, _)| name));
    Some(column.map_or_else(|| format!("line {number}"), |column| format!("line {number}, column {column}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(sqlstate: &str, context: &str, has_position: bool) -> ServerError {
        let context = (!context.is_empty()).then(|| context.to_owned());
        ServerError { sqlstate: sqlstate.into(), context, has_position, ..ServerError::default() }
    }

    #[test]
    fn only_what_can_not_quote_a_value_is_trusted() {
        let raise = "PL/pgSQL function f() line 1 at RAISE";
        for (state, context, position, expected) in [
            ("40P01", "", false, Trust::Whole),
            ("55P03", "while updating tuple (0,1) in relation \"streams\"", false, Trust::Whole),
            ("53100", "parallel worker", false, Trust::Whole),
            ("42501", "", false, Trust::Whole),
            ("42P01", "", true, Trust::Whole),
            ("42P01", "", false, Trust::Unquoted),
            ("42601", "COPY t, line 1, column q: \"canary\"", false, Trust::Unquoted),
            ("54000", "", false, Trust::Unquoted),
            ("55P04", "", false, Trust::Unquoted),
            ("0A000", "", false, Trust::Unquoted),
            ("40001", raise, false, Trust::Never),
            ("42501", raise, true, Trust::Never),
            ("40001", "COPY t, line 1\nPL/pgSQL-Funktion f() Zeile 1 bei RAISE", false, Trust::Never),
            ("22P02", "", true, Trust::Never),
            ("23505", "", false, Trust::Never),
            ("P0001", "", false, Trust::Never),
            ("XX000", "", false, Trust::Never),
            ("01000", "", false, Trust::Never),
            ("45000", "", false, Trust::Never),
            ("", "", true, Trust::Never),
        ] {
            assert_eq!(trust(&error(state, context, position)), expected, "{state} {context}");
        }
        let careful = error("0A000", "", false);
        assert!(may_show(&careful, "COPY FROM not supported with row-level security"));
        for quoting in ["unit \"canary\" not supported", "Einheit »canary« wird nicht unterstützt", "no `canary`"] {
            assert!(!may_show(&careful, quoting));
        }
    }

    #[test]
    fn the_place_in_a_copy_is_told_without_its_value() {
        for (context, expected) in [
            ("COPY orders, line 3, column total: \"canary\"", Some("line 3, column total")),
            ("COPY orders, line 3, column total: null input", Some("line 3, column total")),
            ("COPY orders, line 3: \"1\tcanary\"", Some("line 3")),
            ("COPY orders, line 3, column total", Some("line 3, column total")),
            ("COPY orders, Zeile 3, Spalte total: »canary«", None),
            ("COPY orders, line canary", None),
            ("COPY orders, line 3: \"x\nCOPY orders, line 3, column canary", None),
            ("PL/pgSQL function f() line 1 at RAISE\nCOPY orders, line 3: \"canary\"", None),
        ] {
            assert_eq!(place(&error("22P02", context, false)).as_deref(), expected);
        }
    }
}
