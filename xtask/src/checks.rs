//! What a change must pass.

use crate::bundle;
use crate::guest_toolchain::{self, Guest, TARGET};
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
    // The binary is looked at as it is built, with the connectors inside.
    bundle::connectors()?;
    for workspace in WORKSPACES {
        say(format_args!("lints: {workspace}"));
        must(
            within(workspace)
                .args(["clippy"])
                .args(profile(workspace))
                .args(["--locked", "--workspace", "--all-targets"])
                .args(features(workspace))
                .args(["--", "-D", "warnings"]),
        )?;
        say(format_args!("docs: {workspace}"));
        must(
            within(workspace)
                .env("RUSTDOCFLAGS", "-D warnings")
                .args(["doc"])
                .args(profile(workspace))
                .args(["--locked", "--workspace", "--no-deps"])
                .args(features(workspace)),
        )?;
    }
    for what in [&["--package", "rapidbyte-sdk"][..], &["--workspace"]] {
        say(format_args!("lints for the sandbox: connectors, {}", what.join(" ")));
        must(&mut sandboxed(&guest_toolchain::ensure()?, what))?;
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
    if workspace == "." {
        command.env("RAPIDBYTE_BUNDLE_DIR", target_dir().join("connectors"));
    } else {
        command.current_dir(root().join(workspace)).env("CARGO_TARGET_DIR", guests_dir());
    }
    command
}

/// A look at the connectors' code as the sandbox gets it; the SDK once alone, with no other crate's features. A linked toolchain has no
/// clippy, and only compiles.
fn sandboxed(guest: &Guest, what: &[&str]) -> Command {
    let mut command = guest.cargo();
    command.current_dir(root().join("connectors")).env("CARGO_TARGET_DIR", guests_dir()).env_remove("RUSTFLAGS");
    let verb = match guest {
        Guest::Same => "clippy",
        Guest::Linked => "check",
    };
    command.args([verb, "--locked", "--target", TARGET]).args(what);
    if matches!(guest, Guest::Same) {
        command.args(["--", "-D", "warnings"]);
    }
    command
}

/// Code that is compiled in on demand is looked at, too.
fn features(workspace: &str) -> &'static [&'static str] {
    if workspace == "." { &["--features", "rapidbyte-cli/bundled,rapidbyte-cli/crash-points"] } else { &[] }
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
