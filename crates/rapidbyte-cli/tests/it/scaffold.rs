//! What `rapidbyte scaffold` writes builds, tests and runs as it is, by the commands of its own README.

use rapidbyte_testkit::{Project, binary, root};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The commands of a README's first block of shell, without what follows `#`.
fn commands(readme: &str) -> Vec<String> {
    let block = readme.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of shell");
    block
        .lines()
        .map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

/// A directory that survives between runs of the tests, so that the SDK's dependencies are compiled once.
pub(crate) fn target() -> PathBuf {
    binary().ancestors().nth(2).expect("a target directory").join("scaffolded")
}

/// Runs a script in a project as a user would, without a network; whether it went well, and what it said.
pub(crate) fn shell(dir: &Path, script: &str, variables: &[(&str, String)]) -> (bool, String) {
    let bin = binary().parent().expect("a directory").to_path_buf();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&path))).expect("a PATH");
    let output = Command::new("sh")
        .args(["-euc", script])
        .current_dir(dir)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .env("PATH", path)
        .env("CARGO_NET_OFFLINE", "true")
        .env("CARGO_TARGET_DIR", target())
        // What is built is the same, and compiled faster.
        .env("CARGO_PROFILE_DEV_DEBUG", "false")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env_remove("RUSTFLAGS")
        .env("RAPIDBYTE_CACHE_DIR", binary().with_file_name("cache-of-tests"))
        .output()
        .expect("a shell can be started");
    let words = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), words)
}

#[test]
fn scaffolded_connectors_build_test_and_run() {
    // The toolchain is chosen as in the checkout.
    let toolchain = root().join("rust-toolchain.toml");
    for (name, role) in [("source-weather", "source"), ("dest-ledger", "destination"), ("shout", "transform")] {
        let project = Project::empty();
        project.rapidbyte(&["scaffold", name, "--role", role]).finish().success();
        let dir = project.path(name);
        if toolchain.is_file() {
            std::fs::copy(&toolchain, dir.join("rust-toolchain.toml")).expect("a file can be copied");
        }
        let lines = commands(&std::fs::read_to_string(dir.join("README.md")).expect("a README"));
        for wanted in ["cargo test", "cargo build", "rapidbyte connectors pack", "rapidbyte run"] {
            assert!(lines.iter().any(|line| line.starts_with(wanted)), "{role}: README.md does not say `{wanted}`: {lines:?}");
        }
        for line in &lines {
            // The component is looked for where cargo puts it by default.
            let built =
                format!("{line}{}", if line.starts_with("cargo build") { " && ln -sfn \"$CARGO_TARGET_DIR\" target" } else { "" });
            let (well, words) = shell(&dir, &built, &[]);
            assert!(well, "{role}: `{line}` failed:\n{words}");
            if line.starts_with("cargo test") {
                let ran = words.lines().any(|line| line.contains("test result: ok.") && !line.contains(" 0 passed"));
                assert!(ran, "{role}: no test was run:\n{words}");
            }
        }
        // A second scaffold does not write over the first.
        project.rapidbyte(&["scaffold", name]).finish().exit(2);
    }
}
