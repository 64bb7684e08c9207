//! Making a complete generation visible.
//!
//! 1. A directory with hard links to all files is made and made durable. Nobody looks there yet.
//! 2. A manifest says that it is what readers see: the decision.
//! 3. The stream's symbolic link moves to it in one rename. A crash between 2 and 3 is made up for by the next claim.

use crate::control::{Control, fenced, now_ms};
use crate::disk::Visible;
use crate::manifest::{FileKind, Manifest, OpenGeneration, StagedFile, Step};
use crate::names;
use rapidbyte_sdk::{ConnectorError, PublishRequest, PublishSummary, SyncMode, WriteMode, host_ffi};

pub(crate) fn publish(control: &Control, request: &PublishRequest, extension: &str) -> Result<PublishSummary, ConnectorError> {
    host_ffi::mark("dest.publish.before");
    let newest = control.newest()?;
    let newest = control.claimed(newest.as_ref(), request.epoch)?;
    let visible = newest.published.as_ref().is_some_and(|published| published.number == request.generation);
    let goes_on = request.context.sync_mode == SyncMode::Cdc;
    let now = match &newest.open {
        // Asked again: the decision stands, the link may still have to move.
        Some(open) if goes_on && visible && open.number == request.generation => newest.clone(),
        Some(open) if open.number == request.generation => {
            let directory = names::published(request.generation, request.epoch);
            build(control, newest, open, &directory)?;
            host_ffi::mark("dest.publish.directory");
            let now = control.change_claimed(request.epoch, Step::Publish, |manifest| {
                manifest.publish(&directory, goes_on);
                Ok(())
            })?;
            host_ffi::mark("dest.publish.decided");
            now
        }
        None if visible => newest.clone(),
        _ => return Err(fenced(&control.stream, &format!("generation {} is not open", request.generation))),
    };
    point(control, &now)?;
    host_ffi::mark("dest.publish.after");
    sweep(control, &now, Sweep::Orphans, now_ms())?;
    let rows = now.published.map_or(0, |published| published.rows);
    Ok(PublishSummary { rows, records_skipped: 0, location: location(control, extension) })
}

/// Where a person finds the files of a stream.
pub(crate) fn location(control: &Control, extension: &str) -> String {
    control.disk.root().join(&control.folder).join(format!("*.{extension}")).to_string_lossy().into_owned()
}

/// Fills the directory that is to become visible: what was visible before if the mode is append, and the generation's files.
fn build(control: &Control, newest: &Manifest, open: &OpenGeneration, directory: &str) -> Result<(), ConnectorError> {
    if let Some(partition) = open.unfinished() {
        let message = format!(
            "generation {} of `{}` can't be published: partition `{partition}` is not complete",
            open.number, control.stream
        );
        return Err(ConnectorError::internal("incomplete_generation", message));
    }
    let target = control.generations(directory);
    // Left over from a publish that died here.
    control.disk.remove_tree(&target)?;
    control.disk.ensure_dir(&target)?;
    let linked = match open.write_mode {
        WriteMode::Append => link_visible(control, newest, &target)?,
        WriteMode::Replace | WriteMode::Upsert => 0,
    };
    let (with_rows, without): (Vec<_>, Vec<_>) =
        open.files.iter().filter(|file| file.kind == FileKind::Data).partition(|file| file.rows > 0);
    // A file without rows carries the columns; one is enough, and only where there is nothing else to read.
    let empty = without.into_iter().take(usize::from(linked + with_rows.len() == 0));
    for file in with_rows.into_iter().chain(empty) {
        let staged = format!("{}/{}", control.staged(&file.directory), file.name);
        if control.disk.size(&staged)? != Some(file.bytes) {
            return Err(damaged(&format!("the committed file `{staged}` is gone or has another size")));
        }
        link(control, &staged, &target, &file.name)?;
    }
    control.disk.sync_dir(&target)?;
    let letters: Vec<_> = open.files.iter().filter(|file| file.kind == FileKind::DeadLetters).collect();
    if !letters.is_empty() {
        let target = format!("{}/{}", names::DEAD_LETTERS, control.folder);
        control.disk.ensure_dir(&target)?;
        for file in letters {
            // Taken names are ours, from a publish that died here.
            control.disk.link(&format!("{}/{}", control.staged(&file.directory), file.name), &format!("{target}/{}", file.name))?;
        }
        control.disk.sync_dir(&target)?;
    }
    Ok(())
}

/// Links what is visible now into another directory; says how many files that are.
fn link_visible(control: &Control, newest: &Manifest, target: &str) -> Result<usize, ConnectorError> {
    let Some(published) = &newest.published else { return Ok(0) };
    let source = control.generations(&published.directory);
    let names = control.disk.list(&source)?;
    if control.disk.size(&source)?.is_none() || (names.is_empty() && published.rows > 0) {
        // For an overtaken run it may have been cleared away rightly.
        control.claimed(control.newest()?.as_ref(), newest.epoch)?;
        return Err(damaged(&format!("the published folder `{source}` is gone or empty")));
    }
    let mut linked = 0;
    for name in names {
        linked += link(control, &format!("{source}/{name}"), target, &name)?;
    }
    Ok(linked)
}

/// Fills the directory that a commit of an open-ended generation makes visible: what is visible, and the commit's own files.
pub(crate) fn build_commit(control: &Control, epoch: u64, files: &[StagedFile], directory: &str) -> Result<(), ConnectorError> {
    let newest = control.newest()?;
    let newest = control.claimed(newest.as_ref(), epoch)?;
    let target = control.generations(directory);
    // Left over from a commit that died here.
    control.disk.remove_tree(&target)?;
    control.disk.ensure_dir(&target)?;
    link_visible(control, newest, &target)?;
    for file in files.iter().filter(|file| file.kind == FileKind::Data) {
        link(control, &format!("{}/{}", control.staged(&file.directory), file.name), &target, &file.name)?;
    }
    control.disk.sync_dir(&target)
}

fn damaged(message: &str) -> ConnectorError {
    ConnectorError::data("file_damaged", message).with_hint(
        "something else has changed the folders that begin with `_` below `path`: restore them from a backup, or remove the stream's \
         folders below `path` to load anew",
    )
}

fn link(control: &Control, from: &str, directory: &str, name: &str) -> Result<usize, ConnectorError> {
    if control.disk.link(from, &format!("{directory}/{name}"))? {
        return Ok(1);
    }
    Err(ConnectorError::internal("file_exists", format!("two files of `{}` are called `{name}`", control.stream)))
}

/// Lets the stream's link lead to what the newest manifest says, however often that changes meanwhile.
pub(crate) fn point(control: &Control, manifest: &Manifest) -> Result<(), ConnectorError> {
    let mut manifest = manifest.clone();
    while let Some(published) = &manifest.published {
        let target = control.generations(&published.directory);
        let led = control.disk.visible(&control.folder)?;
        if led == Visible::Link(target.clone()) {
            return Ok(());
        }
        if led == Visible::Foreign {
            return Err(ConnectorError::config(
                "folder_taken",
                format!("`{}` below `path` has been replaced by something else", control.folder),
            )
            .with_hint(format!("move `{}` away and run again: nothing is lost", control.folder)));
        }
        control.disk.point(&control.folder, &target)?;
        // A writer that slept before the rename may have turned the link back: whoever renames looks again.
        match control.newest()? {
            Some(newest) => manifest = newest,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// What to clear away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sweep {
    /// Files of dead writers.
    Orphans,
    /// And generations that were visible before the current one, once readers have had the time to leave them.
    Everything,
}

/// Removes what the manifest does not name. Writers of an older epoch that still live lose their staged files, and could not
/// have committed them. The manifest may be stale: whoever sweeps may sleep meanwhile. It knows nothing of later epochs, so what
/// they have made is left alone, and of its own and earlier ones nothing can be added that it does not name.
pub(crate) fn sweep(control: &Control, manifest: &Manifest, what: Sweep, now_ms: u64) -> Result<(), ConnectorError> {
    control.sweep_unlinked()?;
    let files = manifest.open.iter().flat_map(|open| &open.files);
    let used: Vec<&str> = files.map(|file| file.directory.as_str()).collect();
    let current = manifest.open.as_ref().map(|open| control.staging(open.number, manifest.epoch).0);
    for directory in control.disk.list(&control.staged(""))? {
        let past = names::staging_epoch(&directory).is_some_and(|epoch| epoch <= manifest.epoch);
        if past && !used.contains(&directory.as_str()) && current.as_ref() != Some(&directory) {
            control.disk.remove_tree(&control.staged(&directory))?;
        }
    }
    if what == Sweep::Everything {
        let visible = manifest.published.iter().map(|published| published.directory.as_str());
        let left = manifest.retired.iter().filter(|retired| retired.in_use(now_ms)).map(|retired| retired.directory.as_str());
        let kept: Vec<&str> = visible.chain(left).collect();
        for directory in control.disk.list(&control.generations(""))? {
            let past = names::published_epoch(&directory).is_some_and(|epoch| epoch <= manifest.epoch);
            if past && !kept.contains(&directory.as_str()) {
                control.disk.remove_tree(&control.generations(&directory))?;
            }
        }
    }
    Ok(())
}
