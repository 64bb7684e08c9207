//! What must be on the machine, and how it gets there.

use crate::guest_toolchain;
use crate::run::{Failure, Outcome, io, must, say, target_dir, works};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The client libraries the foreign readers of the tests need.
const PYTHON_PACKAGES: &[&str] = &["duckdb", "pyarrow", "pytz"];

/// What building needs: a C compiler for SQLite and the crypto of TLS, and the guests' target.
pub(crate) fn for_build() -> Outcome {
    if !works("cc", &["--version"]) {
        packages("a C compiler", &["build-essential"])?;
    }
    guest_toolchain::ensure().map(|_| ())
}

/// What the tests need beyond that: PostgreSQL 15, and Python with foreign readers of Parquet.
pub(crate) fn for_tests() -> Outcome {
    for_build()?;
    if postgres_bin().is_none() {
        packages("PostgreSQL 15", &["postgresql-15"])?;
    }
    if postgres_bin().is_none() {
        return Err(Failure::new("PostgreSQL 15 is not installed").hint("install its server programs (`initdb`, `postgres`)"));
    }
    if !works("python3", &["-c", "import venv, ensurepip"]) {
        packages("Python with venv", &["python3", "python3-venv"])?;
    }
    python().map(|_| ())
}

/// The directory with PostgreSQL 15's server programs.
pub(crate) fn postgres_bin() -> Option<PathBuf> {
    let known = ["/usr/lib/postgresql/15/bin", "/usr/pgsql-15/bin", "/opt/homebrew/opt/postgresql@15/bin"];
    known.iter().map(PathBuf::from).find(|dir| dir.join("initdb").is_file())
}

/// A Python of our own with the foreign readers, made once.
pub(crate) fn python() -> Outcome<PathBuf> {
    let venv = target_dir().join("python");
    let python = venv.join("bin/python");
    let imports = format!("import {}", PYTHON_PACKAGES.join(", "));
    if works(&python, &["-c", &imports]) {
        return Ok(python);
    }
    say(format_args!("installing {} for the tests' foreign readers", PYTHON_PACKAGES.join(" and ")));
    std::fs::create_dir_all(target_dir()).map_err(io("could not make the target directory"))?;
    must(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    must(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PYTHON_PACKAGES))?;
    Ok(python)
}

/// Installs system packages; root or sudo is asked for only here.
pub(crate) fn packages(why: &str, names: &[&str]) -> Outcome {
    let by_hand = format!("install {why} by hand (Debian: `apt-get install {}`)", names.join(" "));
    if !works("apt-get", &["--version"]) {
        return Err(Failure::new(format!("{why} is missing")).hint(by_hand));
    }
    say(format_args!("installing {why}: {}", names.join(" ")));
    let root = works("sh", &["-c", "test $(id -u) = 0"]);
    if !root && !Path::new("/usr/bin/sudo").exists() {
        return Err(Failure::new(format!("{why} is missing, and installing it needs root or sudo")).hint(by_hand));
    }
    let apt = |arguments: &[&str]| {
        let mut command = if root { Command::new("apt-get") } else { Command::new("sudo") };
        if !root {
            command.arg("apt-get");
        }
        must(command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(&["update", "-qq"])?;
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(names);
    apt(&install).map_err(|failure| failure.hint(by_hand))
}
