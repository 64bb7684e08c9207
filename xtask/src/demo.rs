//! The first pipeline of a newcomer.

use crate::bundle::{self, Flavour};
use crate::run::{Outcome, io, must, root, say};
use crate::system;
use std::fs;
use std::process::Command;

pub(crate) fn run() -> Outcome {
    system::for_build()?;
    let binary = bundle::binary(Flavour::Release)?;
    let example = root().join("examples/orders-to-parquet.yaml");
    let dir = root().join("demo");
    let pipeline = dir.join("pipeline.yaml");
    fs::create_dir_all(&dir).map_err(io("could not make demo/"))?;
    if !pipeline.exists() {
        fs::copy(&example, &pipeline).map_err(io("could not copy the example"))?;
    }
    say("running demo/pipeline.yaml: 100,000 generated orders into Parquet files under demo/output");
    must(Command::new(&binary).current_dir(&dir).args(["run", "pipeline.yaml", "--peek", "5"]))?;
    println!();
    say("done. Look at the pipeline in demo/pipeline.yaml, change it, and run it again:");
    println!("    {} run demo/pipeline.yaml --peek 5", binary.display());
    Ok(())
}
