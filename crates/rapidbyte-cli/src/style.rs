//! Colours, or none. What is said reads the same without them.

use crate::args::ColorChoice;
use crate::environment::{Environment, NO_COLOR, TERM};

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    colored: bool,
}

impl Style {
    /// No colours.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self { colored: false }
    }

    /// As asked for, and as the stream is.
    pub(crate) fn choose(choice: ColorChoice, environment: &Environment, is_terminal: bool) -> Self {
        let colored = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => is_terminal && environment.get(NO_COLOR).is_none() && environment.get(TERM) != Some("dumb"),
        };
        Self { colored }
    }

    pub(crate) fn is_colored(self) -> bool {
        self.colored
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colored { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(crate) fn error(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub(crate) fn warning(self, text: &str) -> String {
        self.paint("1;33", text)
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.paint("1;32", text)
    }

    pub(crate) fn hint(self, text: &str) -> String {
        self.paint("1;36", text)
    }

    pub(crate) fn label(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(crate) fn heading(self, text: &str) -> String {
        self.paint("1", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_follow_flag_terminal_and_environment() {
        let none = Environment::of(&[]);
        let no_color = Environment::of(&[("NO_COLOR", "1")]);
        let dumb = Environment::of(&[("TERM", "dumb")]);
        let colored = |choice, environment: &Environment, terminal| Style::choose(choice, environment, terminal).is_colored();
        assert!(colored(ColorChoice::Auto, &none, true));
        assert!(!colored(ColorChoice::Auto, &none, false));
        assert!(!colored(ColorChoice::Auto, &no_color, true));
        assert!(!colored(ColorChoice::Auto, &dumb, true));
        assert!(colored(ColorChoice::Always, &no_color, false));
        assert!(!colored(ColorChoice::Never, &none, true));
    }
}
