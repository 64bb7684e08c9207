//! Commands in hints.

/// What shells run.
const PROGRAMS: &[&str] =
    &["rapidbyte", "cargo", "rustup", "psql", "chmod", "chown", "mkdir", "mv", "rm", "cp", "kill", "mount", "apt-get"];
/// What a database runs.
const STATEMENTS: &[&str] = &["GRANT", "REVOKE", "CREATE", "ALTER", "DROP", "INSERT", "UPDATE", "DELETE", "SELECT"];

/// Something to be typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Shell(String),
    Sql(String),
}

impl Command {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Shell(text) | Self::Sql(text) => text,
        }
    }
}

/// The commands of a hint, in their order: what stands in backticks and begins like one.
///
/// # Panics
/// When a statement stands outside of backticks, where nobody could tell its end.
pub(super) fn commands(hint: &str) -> Vec<Command> {
    let mut found = Vec::new();
    for (at, piece) in hint.split('`').enumerate() {
        let begins = |words: &[&str]| piece.split_once(' ').is_some_and(|(first, _)| words.contains(&first));
        if at % 2 == 0 {
            let bare = piece.split_whitespace().find(|word| STATEMENTS.contains(word));
            assert!(bare.is_none(), "`{}` stands outside of backticks in the hint: {hint}", bare.unwrap_or_default());
        } else if begins(PROGRAMS) {
            found.push(Command::Shell(piece.to_owned()));
        } else if begins(STATEMENTS) {
            found.push(Command::Sql(piece.to_owned()));
        }
    }
    found
}

#[test]
fn commands_of_a_hint_are_found() {
    let shell = |text: &str| Command::Shell(text.to_owned());
    assert_eq!(commands("set `write_mode: append`, or `cargo` and wait"), []);
    assert_eq!(
        commands("`cargo build --release`, then `rapidbyte connectors pack`"),
        [shell("cargo build --release"), shell("rapidbyte connectors pack")]
    );
    assert_eq!(commands("as its owner run: `GRANT SELECT ON t TO u`"), [Command::Sql("GRANT SELECT ON t TO u".to_owned())]);
    assert!(std::panic::catch_unwind(|| commands("run: GRANT SELECT ON t TO u")).is_err());
}
