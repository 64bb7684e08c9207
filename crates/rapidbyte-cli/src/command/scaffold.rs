//! `scaffold`: a new connector's project. Everything it needs of Rapidbyte is written into it, so that it builds on a machine
//! that has never seen this repository.

use super::Context;
use crate::args::{ScaffoldArgs, ScaffoldRole};
use crate::failure::{Failure, Outcome};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

/// Paths and texts.
type Files = &'static [(&'static str, &'static str)];

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/scaffold.rs"));
}

/// Longer names make paths that some systems refuse.
const MAX_NAME: usize = 64;
/// Rust's keywords that a name's rule would let through: a library can't be called so.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else", "enum",
    "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod", "move", "mut",
    "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];
/// Names that cargo, the standard library or the SDK have taken.
const TAKEN: &[&str] = &["alloc", "core", "proc-macro", "std", "test", "arrow-array", "arrow-schema", "serde"];

pub(crate) fn run(context: &Context, args: &ScaffoldArgs) -> Outcome {
    let name = Name::parse(&args.name)?;
    let role = args.role.unwrap_or_else(|| role_of(&args.name));
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    write(&out, &files(&name, role))?;
    if context.printer.is_json() {
        return context.printer.json(&json!({
            "status": "succeeded", "exit_code": 0, "directory": out.display().to_string(), "role": role.as_str(),
        }));
    }
    context.printer.data(&format!("{}\n", out.display()))?;
    context.printer.note(&next_steps(&out));
    Ok(())
}

fn next_steps(out: &Path) -> String {
    format!(
        "\n\
         Next steps:\n  \
           cd {}\n  \
           cargo test                                       unit tests, with a fake host\n  \
           cargo build --release --target wasm32-wasip2     the component\n  \
           rapidbyte connectors pack .                      the component with its manifest, in dist/\n  \
           rapidbyte run pipeline.yaml                      and it runs\n",
        out.display(),
    )
}

/// A connector's name: lower-case words with hyphens.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name(String);

impl Name {
    fn parse(text: &str) -> Outcome<Self> {
        let word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let begins = text.starts_with(|c: char| c.is_ascii_lowercase());
        if text.len() > MAX_NAME || !begins || !text.split('-').all(word) {
            return Err(Failure::usage(
                format!("`{}` can't be a connector's name", crate::table::printable(text)),
                format!("write lower-case words with hyphens, at most {MAX_NAME} characters: `source-weather`"),
            ));
        }
        if KEYWORDS.contains(&text) || TAKEN.contains(&text) || text.starts_with("rapidbyte-") {
            return Err(Failure::usage(format!("the name `{text}` is taken"), format!("say what it is for: `source-{text}`")));
        }
        Ok(Self(text.to_owned()))
    }

    /// `source_weather`
    fn snake(&self) -> String {
        self.0.replace('-', "_")
    }

    /// Fills the name in where a template says so.
    fn fill(&self, template: &str) -> String {
        template
            .replace("{{name}}", &self.0)
            .replace("{{crate_name}}", &self.snake())
            .replace("{{id}}", &format!("local/{}", self.0))
    }
}

fn role_of(name: &str) -> ScaffoldRole {
    match name.split('-').next() {
        Some("dest" | "destination") => ScaffoldRole::Destination,
        Some("transform") => ScaffoldRole::Transform,
        _ => ScaffoldRole::Source,
    }
}

/// A project's files: those of its role, and the SDK.
fn files(name: &Name, role: ScaffoldRole) -> Vec<(String, String)> {
    let folder = format!("connector-{}/", role.as_str());
    let own = embedded::TEMPLATES.iter().filter_map(|(path, text)| Some((path.strip_prefix(&folder)?.to_owned(), name.fill(text))));
    let shared = embedded::SHARED.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
    own.chain(shared).collect()
}

fn write(out: &Path, files: &[(String, String)]) -> Outcome {
    if fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::usage(
            format!("`{}` is there already and not empty", out.display()),
            "name another directory with `--out`; nothing has been changed",
        ));
    }
    for (path, text) in files {
        let path = out.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| Failure::file("create", folder, error))?;
        }
        fs::write(&path, text).map_err(|error| Failure::file("write", &path, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::ExitCode;
    use rapidbyte_config::Manifest;

    #[test]
    fn names_are_checked() {
        for good in ["source-weather", "s3", "dest-big-query2"] {
            assert!(Name::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "a--b", "A", "a_b", "../a", "1a", "ä", "test", "rapidbyte-sdk", "match", &"a".repeat(65)] {
            assert_eq!(Name::parse(bad).expect_err(bad).exit_code(), ExitCode::Usage, "{bad}");
        }
    }

    #[test]
    fn the_role_follows_the_name() {
        assert_eq!(role_of("dest-x"), ScaffoldRole::Destination);
        assert_eq!(role_of("transform-x"), ScaffoldRole::Transform);
        assert_eq!(role_of("weather"), ScaffoldRole::Source);
    }

    #[test]
    fn every_role_makes_a_whole_project() {
        let name = Name::parse("my-thing").expect("name");
        for role in ScaffoldRole::ALL {
            let files = files(&name, role);
            let text = |wanted: &str| {
                let found = files.iter().find(|(path, _)| path == wanted);
                found.map(|(_, text)| text.as_str()).unwrap_or_else(|| panic!("{}: no {wanted}", role.as_str()))
            };
            for (path, text) in files.iter().filter(|(path, _)| !path.starts_with("vendor/")) {
                assert!(!text.contains("{{"), "{path}: a placeholder is left");
            }
            let manifest = Manifest::parse(text("manifest.json").as_bytes()).expect("manifest");
            assert_eq!(manifest.artifact.entry_point, "my_thing.wasm");
            assert_eq!(manifest.roles().iter().map(|role| role.as_str()).collect::<Vec<_>>(), [role.as_str()]);
            assert!(text("Cargo.toml").contains("name = \"my-thing\""));
            assert!(text("src/lib.rs").contains("connector_main!"));
            assert!(text("pipeline.yaml").contains("dist/my_thing.wasm"));
            assert!(text("vendor/wit/v2/worlds.wit").contains("rapidbyte-source"));
            assert!(text("vendor/crates/rapidbyte-sdk/src/lib.rs").contains("connector_main"));
        }
    }

    #[test]
    fn the_vendored_workspace_has_what_its_members_ask_for() {
        let text =
            |wanted: &str| embedded::SHARED.iter().find(|(path, _)| *path == wanted).map(|(_, text)| *text).expect("vendored");
        let workspace = text("vendor/Cargo.toml");
        for member in ["vendor/crates/rapidbyte-sdk/Cargo.toml", "vendor/crates/rapidbyte-types/Cargo.toml"] {
            for line in text(member).lines().filter(|line| line.ends_with(".workspace = true")) {
                let key = line.split('.').next().unwrap_or_default();
                assert!(workspace.lines().any(|line| line.starts_with(&format!("{key} ="))), "{member}: {key}\n{workspace}");
            }
        }
    }

    #[test]
    fn the_vendored_workspace_asks_for_the_same_versions_as_this_one() {
        let root = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml")).expect("read");
        let vendored =
            embedded::SHARED.iter().find(|(path, _)| *path == "vendor/Cargo.toml").map(|(_, text)| *text).expect("vendored");
        let lines = vendored.lines().skip_while(|line| *line != "[workspace.dependencies]").skip(1);
        for line in lines.take_while(|line| !line.starts_with('[')).filter(|line| line.contains('=')) {
            assert!(root.lines().any(|theirs| theirs == line), "`{line}` is not in the root Cargo.toml");
        }
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let dir = tempfile::tempdir().expect("directory");
        fs::write(dir.path().join("mine"), "").expect("written");
        let failure = write(dir.path(), &[("a".to_owned(), String::new())]).expect_err("refused");
        assert_eq!(failure.exit_code(), ExitCode::Usage);
        assert!(!dir.path().join("a").exists());
    }
}
