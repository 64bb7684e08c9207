//! What a change must pass.

use crate::run::{Outcome, cargo, guests_dir, must, root, say, target_dir, works};
use crate::tests;
use std::path::PathBuf;
use std::process::Command;

const CARGO_DENY: &str = "0.20.2";

/// The workspaces: host, connectors, and the guests that misbehave for the runtime's tests.
const WORKSPACES: &[&str] = &[".", "connectors", "crates/rapidbyte-testkit/guests"];

pub(crate) fn run() -> Outcome {
    formatting()?;
    tests::run(&[])?;
    lints()
}

/// Everything but the tests.
pub(crate) fn lint() -> Outcome {
    formatting()?;
    lints()
}

fn formatting() -> Outcome {
    for workspace in WORKSPACES {
        say(format_args!("formatting: {workspace}"));
        must(cargo().current_dir(root().join(workspace)).args(["fmt", "--all", "--check"]))?;
    }
    Ok(())
}

fn lints() -> Outcome {
    for workspace in WORKSPACES {
        say(format_args!("lints: {workspace}"));
        must(within(workspace).args(["clippy"]).args(profile(workspace)).args([
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))?;
        say(format_args!("docs: {workspace}"));
        must(within(workspace).env("RUSTDOCFLAGS", "-D warnings").args(["doc"]).args(profile(workspace)).args([
            "--locked",
            "--workspace",
            "--no-deps",
        ]))?;
    }
    say("dependencies");
    let deny = cargo_deny()?;
    for workspace in WORKSPACES {
        must(
            Command::new(&deny)
                .current_dir(root().join(workspace))
                .arg("--config")
                .arg(root().join("deny.toml"))
                .args(["check", "bans", "licenses", "sources"]),
        )?;
    }
    say("all is well");
    Ok(())
}

/// Cargo in a workspace; the guests' ones share a target directory.
fn within(workspace: &str) -> Command {
    let mut command = cargo();
    if workspace != "." {
        command.current_dir(root().join(workspace)).env("CARGO_TARGET_DIR", guests_dir());
    }
    command
}

/// The host is always compiled for release: the sandbox is compiled once.
fn profile(workspace: &str) -> &'static [&'static str] {
    if workspace == "." { &["--release"] } else { &[] }
}

fn cargo_deny() -> Outcome<PathBuf> {
    let tools = target_dir().with_file_name("tools");
    let deny = tools.join("bin/cargo-deny");
    if !works(&deny, &["--version"]) {
        say("installing cargo-deny");
        // It looks at a few files: to compile it fast matters more than how fast it is.
        must(
            Command::new("cargo")
                .args(["install", "cargo-deny", "--locked", "--debug", "--version", CARGO_DENY, "--root"])
                .arg(&tools)
                .env("CARGO_PROFILE_DEV_DEBUG", "false")
                .env("CARGO_TARGET_DIR", target_dir().with_file_name("target-tools")),
        )?;
    }
    Ok(deny)
}
