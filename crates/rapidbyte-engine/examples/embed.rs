//! Runs a pipeline from a program of one's own: `embed <pipeline.yaml> <directory of packed connectors>`.
//!
//! The directory holds one folder for each connector, as `cargo xtask connectors` makes it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example that shows what happens")]

use rapidbyte_config::PipelinePlan;
use rapidbyte_engine::{AotMode, Cancel, ConnectorLibrary, Engine, EngineError, EngineOptions, Observer, RunEvent, RunOptions};
use std::borrow::Cow;
use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

/// Packed connectors in a directory.
struct Directory(PathBuf);

impl ConnectorLibrary for Directory {
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    fn component(&self, name: &str) -> Option<Cow<'static, [u8]>> {
        let file = format!("{}.wasm", name.replace('-', "_"));
        fs::read(self.0.join(name).join(file)).ok().map(Cow::Owned)
    }
}

/// Says what happens, a line each.
struct Talkative;

impl Observer for Talkative {
    fn event(&self, event: RunEvent<'_>) {
        match event {
            RunEvent::Read { .. } => {}
            RunEvent::Peek { table, .. } => println!("{table}"),
            other => println!("{other:?}"),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(pipeline), Some(connectors)) = (words.next(), words.next()) else {
        return Err("usage: embed <pipeline.yaml> <directory of packed connectors>".into());
    };
    let engine = Engine::new(EngineOptions {
        aot: AotMode::Off,
        build_id: "embedding example".into(),
        library: Arc::new(Directory(connectors.into())),
        env: std::env::vars().collect(),
        allowed_hosts: None,
    })?;
    let plan = PipelinePlan::load(pipeline.as_ref(), &|name| std::env::var(name).ok())?;
    let options = RunOptions { cancel: Cancel::new(), observer: Arc::new(Talkative), follow: false, peek_rows: 3 };
    match engine.run(&plan, options).await {
        Ok(report) => {
            println!("{}", serde_json::to_string_pretty(&report)?);
            Ok(())
        }
        Err(error) => Err(explain(&error)),
    }
}

fn explain(error: &EngineError) -> Box<dyn Error> {
    if let Some(hint) = error.hint() {
        eprintln!("hint: {hint}");
    }
    error.to_string().into()
}
