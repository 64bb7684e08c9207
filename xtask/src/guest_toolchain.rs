//! The compiler for guests: target `wasm32-wasip2`.
//!
//! Where rustup can fetch the target, that is all. Where it can't (no network beyond a Debian mirror), the standard library
//! is compiled once from Debian's `rust-web-src` and linked as a toolchain of its own. Debian's C library for WebAssembly
//! lacks the socket and thread symbols that std refers to, and its `crt1-command.o` leaves constructors to the linker, which
//! then wraps every export; `guest-toolchain/*.c` mends both.

use crate::run::{Failure, Outcome, io, must, output, say, target_dir, works};
use crate::system::packages;
use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const TARGET: &str = "wasm32-wasip2";

/// The name under which the home-made toolchain is linked.
const LINKED: &str = "rapidbyte-guest";

const PACKAGES: &[&str] =
    &["rustc-web", "cargo-web", "rust-web-src", "wasi-libc", "clang-19", "llvm-19", "libclang-rt-19-dev-wasm32"];

/// Crates whose compiled form makes up the target's standard library.
const STD_CRATES: &[&str] = &[
    "std",
    "core",
    "alloc",
    "compiler_builtins",
    "panic_abort",
    "proc_macro",
    "test",
    "unwind",
    "cfg_if",
    "libc",
    "hashbrown",
    "rustc_std_workspace_",
    "rustc_demangle",
    "std_detect",
    "getopts",
    "wasi",
    "wit_bindgen",
    "rustc_literal_escaper",
    "miniz_oxide",
    "adler2",
    "memchr",
    "object",
    "gimli",
    "addr2line",
];

/// How guests are compiled here.
pub(crate) enum Guest {
    /// By the toolchain that compiles the host.
    Same,
    /// By the linked one.
    Linked,
}

impl Guest {
    /// A cargo that can build for [`TARGET`].
    pub(crate) fn cargo(&self) -> Command {
        match self {
            Self::Same => Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into())),
            Self::Linked => {
                let mut command = Command::new("cargo");
                // A toolchain chosen by the cargo that runs us would win over `+name`.
                command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").env_remove("RUSTC").arg(format!("+{LINKED}"));
                command
            }
        }
    }
}

/// Makes sure that guests can be compiled. `RAPIDBYTE_GUEST_TOOLCHAIN=debian` takes the second way even where the first works.
pub(crate) fn ensure() -> Outcome<Guest> {
    if env::var("RAPIDBYTE_GUEST_TOOLCHAIN").as_deref() != Ok("debian") {
        if has_target(&mut Command::new("rustc")) {
            return Ok(Guest::Same);
        }
        say(format_args!("adding the compilation target {TARGET}"));
        if works("rustup", &["target", "add", TARGET]) && has_target(&mut Command::new("rustc")) {
            return Ok(Guest::Same);
        }
        say("rustup can't fetch it here; compiling the standard library from Debian's sources instead");
    }
    let mut linked = Command::new("rustc");
    linked.env_remove("RUSTUP_TOOLCHAIN").arg(format!("+{LINKED}"));
    if !has_target(&mut linked) {
        from_debian()?;
    }
    Ok(Guest::Linked)
}

fn has_target(rustc: &mut Command) -> bool {
    let dir = output(rustc.args(["--print", "target-libdir", "--target", TARGET]));
    let Ok(entries) = dir.map_err(|_| ()).and_then(|dir| fs::read_dir(dir).map_err(|_| ())) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
}

fn from_debian() -> Outcome {
    let host = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    if !Path::new("/usr/lib/rustlib/src").exists()
        || !works("clang-19", &["--version"])
        || !Path::new("/usr/lib/wasm32-wasi").exists()
    {
        packages("the WebAssembly toolchain", PACKAGES)?;
    }
    let dest = target_dir().join("guest-toolchain");
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let linkers = Path::new(&sysroot).join("lib/rustlib").join(&host).join("bin");
    let made = |result: std::io::Result<()>| result.map_err(io("could not lay out the toolchain"));

    if dest.exists() {
        made(fs::remove_dir_all(&dest))?;
    }
    let target_lib = dest.join("lib/rustlib").join(TARGET).join("lib");
    let contained = target_lib.join("self-contained");
    let host_dir = dest.join("lib/rustlib").join(&host);
    let build = dest.join("build");
    for dir in [dest.join("bin"), host_dir.join("bin"), contained.clone(), build.join("src")] {
        made(fs::create_dir_all(dir))?;
    }
    made(symlink(format!("/usr/lib/rustlib/{host}/lib"), host_dir.join("lib")))?;
    made(symlink("/usr/lib/rustlib/src", dest.join("lib/rustlib/src")))?;
    for name in ["rust-lld", "wasm-component-ld", "gcc-ld"] {
        made(symlink(linkers.join(name), host_dir.join("bin").join(name)))?;
    }
    let rustc = dest.join("bin/rustc");
    made(fs::write(&rustc, format!("#!/bin/sh\nexec /usr/bin/rustc --sysroot \"{}\" \"$@\"\n", dest.display())))?;
    made(fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755)))?;
    for name in ["cargo", "rustdoc"] {
        let program = PathBuf::from("/usr/bin").join(name);
        if program.exists() {
            made(symlink(program, dest.join("bin").join(name)))?;
        }
    }
    c_library(&contained)?;
    standard_library(&build, &rustc, &target_lib)?;
    must(Command::new("rustup").args(["toolchain", "link", LINKED]).arg(&dest))
}

fn c_library(contained: &Path) -> Outcome {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-toolchain");
    let wasi = Path::new("/usr/lib/wasm32-wasi");
    let entries = fs::read_dir(wasi).map_err(io("could not read the WebAssembly C library"))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if text == "libc.a" || (text.starts_with("crt1") && text.ends_with(".o")) {
            fs::copy(entry.path(), contained.join(&name)).map_err(io("could not copy the WebAssembly C library"))?;
        }
    }
    let compile = |source: &str, object: &str| {
        must(
            Command::new("clang-19")
                .args(["--target=wasm32-wasi", "-O2", "-w", "-I/usr/include/wasm32-wasi", "-c"])
                .arg(sources.join(source))
                .arg("-o")
                .arg(contained.join(object)),
        )
    };
    compile("stubs.c", "stubs.o")?;
    compile("crt1-command.c", "crt1-command.o")?;
    must(Command::new("llvm-ar-19").arg("r").arg(contained.join("libc.a")).arg(contained.join("stubs.o")))?;
    must(Command::new("llvm-ranlib-19").arg(contained.join("libc.a")))
}

fn standard_library(build: &Path, rustc: &Path, target_lib: &Path) -> Outcome {
    say("compiling the guests' standard library (a minute or two, once)");
    let manifest = "[package]\nname = \"seed\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n[workspace]\n\n[profile.release]\nopt-level = 3\ndebug = 0\n";
    fs::write(build.join("Cargo.toml"), manifest).map_err(io("could not write the seed crate"))?;
    fs::write(build.join("src/lib.rs"), "#![no_std]\n").map_err(io("could not write the seed crate"))?;
    must(
        Command::new("/usr/bin/cargo")
            .current_dir(build)
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("CARGO_TARGET_DIR")
            .env("RUSTC", rustc)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", "-Cembed-bitcode=yes -Zforce-unstable-if-unmarked")
            .args(["build", "--release", "--quiet", "-Zbuild-std=std,panic_abort,proc_macro,test", "--target", TARGET]),
    )?;
    let deps = build.join("target").join(TARGET).join("release/deps");
    let mut copied = 0;
    for entry in fs::read_dir(&deps).map_err(io("could not read the compiled standard library"))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(stem) = name.strip_prefix("lib") else { continue };
        if STD_CRATES.iter().any(|krate| stem.starts_with(krate)) && (name.ends_with(".rlib") || name.ends_with(".rmeta")) {
            fs::copy(entry.path(), target_lib.join(&name)).map_err(io("could not copy the standard library"))?;
            copied += 1;
        }
    }
    if copied == 0 {
        return Err(Failure::new("the standard library for guests was not built").hint("remove the target directory and try again"));
    }
    Ok(())
}
