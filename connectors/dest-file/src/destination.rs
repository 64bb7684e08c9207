//! The connector: checking, claiming and preparing. Writing and publishing have modules of their own.

use crate::config::{Config, Settings};
use crate::control::{Control, fenced, now_ms};
use crate::disk::{Disk, Visible, nonce};
use crate::manifest::{Manifest, OpenGeneration, Step};
use crate::{names, publish, write};
use rapidbyte_sdk::{
    CheckItem, CheckStatus, ClaimRequest, ClaimStream, ClaimedStream, ConnectorError, Destination, InitContext, Input,
    PrepareRequest, PublishRequest, PublishSummary, RunContext, StreamContext, SyncMode, WriteMode, WriteRequest, WriteSummary,
    host_ffi,
};

/// Writes files into a folder.
pub struct DestFile {
    settings: Settings,
    disk: Disk,
}

impl Destination for DestFile {
    type Config = Config;

    fn init(config: Config, _context: InitContext) -> Result<Self, ConnectorError> {
        let settings = config.settings()?;
        let disk = Disk::new(settings.root.clone());
        Ok(Self { settings, disk })
    }

    fn validate(&mut self, streams: &[StreamContext]) -> Result<Vec<CheckItem>, ConnectorError> {
        let mut items = vec![item("path", self.probe(), "files, hard links and symbolic links can be made")];
        for context in streams {
            let control = self.control(context);
            let looked = supported(context).and_then(|()| self.look(&control));
            items.push(item(&format!("stream {}", context.name), looked, &format!("goes to the folder `{}`", control.folder)));
        }
        Ok(items)
    }

    fn claim(&mut self, request: &ClaimRequest) -> Result<Vec<ClaimedStream>, ConnectorError> {
        host_ffi::mark("dest.claim.before");
        let claimed = request.streams.iter().map(|stream| self.claim_stream(&request.run, stream)).collect();
        host_ffi::mark("dest.claim.after");
        claimed
    }

    fn prepare(&mut self, request: &PrepareRequest) -> Result<(), ConnectorError> {
        supported(&request.context)?;
        let control = self.control(&request.context);
        self.look(&control)?;
        host_ffi::mark("dest.prepare.before");
        let wanted = &request.generation;
        let now = control.change_claimed(request.epoch, Step::Prepare, |manifest| {
            match manifest.open.as_mut().filter(|open| open.number == wanted.number) {
                Some(open) => open.add_partitions(&wanted.partitions),
                None if wanted.number <= manifest.newest_generation => {
                    return Err(fenced(&control.stream, &format!("generation {} has been used already", wanted.number)));
                }
                None => {
                    manifest.newest_generation = wanted.number;
                    manifest.open = Some(OpenGeneration::new(wanted, request.context.write_mode));
                }
            }
            Ok(())
        })?;
        host_ffi::mark("dest.prepare.after");
        publish::sweep(&control, &now, publish::Sweep::Everything, now_ms())
    }

    fn write(&mut self, request: &WriteRequest, input: &mut Input) -> Result<WriteSummary, ConnectorError> {
        write::Task::new(&self.settings, &self.disk, request)?.run(input)
    }

    fn publish(&mut self, request: &PublishRequest) -> Result<PublishSummary, ConnectorError> {
        publish::publish(&self.control(&request.context), request, self.settings.format.extension())
    }

    fn teardown(&mut self, run: &RunContext, streams: &[StreamContext]) -> Result<(), ConnectorError> {
        for context in streams {
            let control = self.control(context);
            let Some(newest) = control.newest()? else { continue };
            if newest.pipeline_id != run.pipeline_id || newest.step == Step::Teardown {
                continue;
            }
            let now = control.change_claimed(newest.epoch, Step::Teardown, |manifest| {
                manifest.epoch += 1;
                manifest.discard_open();
                Ok(())
            })?;
            publish::sweep(&control, &now, publish::Sweep::Everything, now_ms())?;
        }
        Ok(())
    }
}

impl DestFile {
    fn control(&self, context: &StreamContext) -> Control {
        Control::new(self.disk.clone(), &context.target)
    }

    /// Whether the folder can hold what we make; leaves nothing behind.
    fn probe(&self) -> Result<(), ConnectorError> {
        let names: [String; 3] = std::array::from_fn(|_| format!(".rapidbyte-check-{}", nonce()));
        let probed = self.disk.create(&names[0]).and_then(|file| {
            file.sync_all().map_err(|error| crate::disk::failed("write the file", &names[0], error))?;
            self.disk.link(&names[0], &names[1])?;
            self.disk.probe_symlink(&names[2])
        });
        for name in &names {
            let removed = self.disk.remove_file(name);
            if probed.is_ok() {
                removed?;
            }
        }
        probed
    }

    /// Whether what stands in the stream's place is ours.
    fn look(&self, control: &Control) -> Result<(), ConnectorError> {
        let newest = control.newest()?;
        let published = newest.as_ref().and_then(|manifest| manifest.published.as_ref());
        match (self.disk.visible(&control.folder)?, published) {
            (Visible::Absent, _) => Ok(()),
            (Visible::Link(target), Some(_)) if target.starts_with(&control.generations("")) => Ok(()),
            _ => Err(ConnectorError::config(
                "folder_taken",
                format!("`{}` below `path` was not made by this connector", control.folder),
            )
            .with_hint(format!("move `{}` away, or set `path` to another folder", control.folder))),
        }
    }

    fn claim_stream(&self, run: &RunContext, request: &ClaimStream) -> Result<ClaimedStream, ConnectorError> {
        let ClaimStream { context, known_epoch, source_identity } = request;
        let control = self.control(context);
        let now = control.change(|newest| {
            let mut next = match newest {
                Some(newest) if newest.source_identity != *source_identity => return Err(mismatch(&control, newest)),
                Some(newest) => control.next(newest, Step::Claim),
                None => control.first(&run.pipeline_id, &run.pipeline, source_identity),
            };
            next.epoch = next.epoch.max(*known_epoch) + 1;
            if next.pipeline_id != run.pipeline_id {
                // Another pipeline over the same data may choose other columns or transforms: its load can't be gone on with.
                next.discard_open();
                next.pipeline_id.clone_from(&run.pipeline_id);
            }
            if next.open.as_ref().is_some_and(|open| open.spoiled) {
                next.discard_open();
            }
            next.pipeline.clone_from(&run.pipeline);
            Ok(next)
        })?;
        publish::point(&control, &now)?;
        publish::sweep(&control, &now, publish::Sweep::Orphans, now_ms())?;
        let Manifest { epoch, newest_generation, open, .. } = now;
        let receipts = open.iter().flat_map(|open| &open.receipts).map(|stored| stored.restore(0)).collect();
        let location = publish::location(&control, self.settings.format.extension());
        Ok(ClaimedStream { epoch, newest_generation, generation: open.map(|open| open.generation()), receipts, location })
    }
}

fn mismatch(control: &Control, newest: &Manifest) -> ConnectorError {
    let message =
        format!("the folder `{}` holds data of another source, written by pipeline `{}`", control.folder, newest.pipeline);
    ConnectorError::config("source_mismatch", message).with_hint(format!(
        "set `path` to another folder; or, to begin anew, remove `{folder}`, `{control}/{folder}`, `{generations}/{folder}` and `{staging}/{folder}` below it",
        folder = control.folder,
        control = names::CONTROL,
        generations = names::GENERATIONS,
        staging = names::STAGING,
    ))
}

fn supported(context: &StreamContext) -> Result<(), ConnectorError> {
    if context.sync_mode != SyncMode::FullRefresh && context.write_mode != WriteMode::Append {
        let (sync, write) = (context.sync_mode, context.write_mode);
        return Err(ConnectorError::config(
            "write_mode",
            format!("what a stream of `sync_mode: {sync}` brings is added to files, not written with write mode `{write}`"),
        )
        .with_hint("set `write_mode: append`"));
    }
    if context.write_mode == WriteMode::Upsert {
        return Err(ConnectorError::config("write_mode", "files can't be written with write mode `upsert`")
            .with_hint("set `write_mode` to `append` or `replace`"));
    }
    write::supported_policies(&context.policies)
}

fn item(name: &str, found: Result<(), ConnectorError>, message: &str) -> CheckItem {
    match found {
        Ok(()) => CheckItem { name: name.to_owned(), status: CheckStatus::Ok, message: message.to_owned(), hint: None },
        Err(error) => CheckItem { name: name.to_owned(), status: CheckStatus::Failed, message: error.message, hint: error.hint },
    }
}
