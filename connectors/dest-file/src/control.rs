//! The chain of manifests of one stream: reading the newest, adding the next.
//!
//! The atomic act is a hard link to the next number, which fails where that number exists. Numbers only grow and the newest
//! manifest is never removed, so the newest one is the truth, and a writer that finds its own manifest to be the newest, or
//! to be the parent of the one after it, knows that it has won.

use crate::disk::{Disk, FILE_MISSING, nonce};
use crate::manifest::{Column, FORMAT, FileKind, Manifest, OpenGeneration, Published, Retired, StagedFile, Step};
use crate::names;
use rapidbyte_sdk::{CommitState, ConnectorError, ErrorCategory, StreamName, host_ffi};
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Older manifests serve nobody but a person who looks for what happened.
const KEPT_MANIFESTS: u64 = 16;
/// A reader that has opened a directory is given this long to list and open what is in it; guessed.
pub(crate) const GRACE_MS: u64 = 60_000;
/// A manifest holds one line per staged file; far above any load that fits a disk.
const MAX_MANIFEST_BYTES: u64 = 512 << 20;
/// Each lost race means that somebody else has gone on. Guessed: far above the number of writers of a stream.
const MAX_RACES: u32 = 10_000;

/// The manifests of one stream.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    pub(crate) disk: Disk,
    pub(crate) stream: StreamName,
    /// The stream's folder name.
    pub(crate) folder: String,
    directory: String,
}

enum Added {
    Yes,
    /// Somebody else has taken the number.
    Lost,
}

/// Another run has claimed the stream.
pub(crate) fn fenced(stream: &StreamName, detail: &str) -> ConnectorError {
    ConnectorError::new(ErrorCategory::Permission, "fenced", format!("another run writes stream `{stream}`: {detail}"))
        .with_hint("let one run finish before the next one starts")
}

pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl Control {
    pub(crate) fn new(disk: Disk, stream: &StreamName) -> Self {
        let folder = names::folder(stream);
        let directory = format!("{}/{folder}", names::CONTROL);
        Self { disk, stream: stream.clone(), folder, directory }
    }

    /// Where files of a generation and epoch are staged: the directory's name, and its path.
    pub(crate) fn staging(&self, generation: u64, epoch: u64) -> (String, String) {
        let directory = names::staging(generation, epoch);
        let path = self.staged(&directory);
        (directory, path)
    }

    /// The path of a staging directory, or of all of them.
    pub(crate) fn staged(&self, directory: &str) -> String {
        join(&[names::STAGING, &self.folder, directory])
    }

    /// The path of a published directory, or of all of them.
    pub(crate) fn generations(&self, directory: &str) -> String {
        join(&[names::GENERATIONS, &self.folder, directory])
    }

    /// The newest manifest.
    pub(crate) fn newest(&self) -> Result<Option<Manifest>, ConnectorError> {
        loop {
            let Some(number) = self.numbers()?.into_iter().max() else { return Ok(None) };
            // Between listing and opening it, so many newer ones may have come that it was removed.
            if let Some(manifest) = self.read(number)? {
                return Ok(Some(manifest));
            }
        }
    }

    fn read(&self, number: u64) -> Result<Option<Manifest>, ConnectorError> {
        let path = self.path(number);
        let Some(bytes) = self.disk.read(&path, MAX_MANIFEST_BYTES)? else { return Ok(None) };
        let manifest = Manifest::decode(&path, &bytes)?;
        if manifest.stream != self.stream {
            let message = format!("streams `{}` and `{}` share the folder `{}`", manifest.stream, self.stream, self.folder);
            return Err(ConnectorError::config("name_collision", message).with_hint(
                "the file system ignores case: give one of the streams another `destination.table`, or another `path`",
            ));
        }
        Ok(Some(manifest))
    }

    fn path(&self, number: u64) -> String {
        format!("{}/{number:08}.json", self.directory)
    }

    fn numbers(&self) -> Result<Vec<u64>, ConnectorError> {
        let names = self.disk.list(&self.directory)?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect())
    }

    /// The manifest that follows `before`, as yet equal to it.
    pub(crate) fn next(&self, before: &Manifest, step: Step) -> Manifest {
        Manifest {
            number: before.number + 1,
            token: nonce(),
            parent: Some(before.token.clone()),
            step,
            written_at_ms: now_ms(),
            ..before.clone()
        }
    }

    /// A first manifest, which knows nothing.
    pub(crate) fn first(&self, pipeline_id: &str, pipeline: &str, source_identity: &str) -> Manifest {
        Manifest {
            format: FORMAT,
            number: 1,
            token: nonce(),
            parent: None,
            step: Step::Claim,
            written_at_ms: now_ms(),
            stream: self.stream.clone(),
            pipeline_id: pipeline_id.to_owned(),
            pipeline: pipeline.to_owned(),
            source_identity: source_identity.to_owned(),
            epoch: 0,
            newest_generation: 0,
            open: None,
            published: None,
            retired: Vec::new(),
        }
    }

    /// Adds the manifest that `change` makes of the newest one; where another writer was faster, on top of theirs.
    pub(crate) fn change(
        &self,
        mut change: impl FnMut(Option<&Manifest>) -> Result<Manifest, ConnectorError>,
    ) -> Result<Manifest, ConnectorError> {
        self.disk.ensure_dir(&self.directory)?;
        for _ in 0..MAX_RACES {
            let next = change(self.newest()?.as_ref())?;
            if let Added::Yes = self.add(&next)? {
                return Ok(next);
            }
        }
        Err(ConnectorError::new(ErrorCategory::TransientDb, "contention", format!("stream `{}` has too many writers", self.stream)))
    }

    /// As [`Control::change`], under the claim: a stale epoch changes nothing.
    pub(crate) fn change_claimed(
        &self,
        epoch: u64,
        step: Step,
        mut change: impl FnMut(&mut Manifest) -> Result<(), ConnectorError>,
    ) -> Result<Manifest, ConnectorError> {
        self.change(|newest| {
            let mut next = self.next(self.claimed(newest, epoch)?, step);
            change(&mut next)?;
            Ok(next)
        })
    }

    /// Notes that the open generation can't be completed: what is committed and what has come do not go together. It stays open
    /// for the writers beside this one, so that their errors do not cover up the one that counts; the next claim gives it up.
    pub(crate) fn spoil(&self, epoch: u64, generation: u64) -> Result<(), ConnectorError> {
        self.change_claimed(epoch, Step::Spoil, |manifest| match manifest.open.as_mut() {
            Some(open) if open.number == generation => {
                open.spoiled = true;
                Ok(())
            }
            _ => Err(fenced(&self.stream, &format!("generation {generation} is not open any more"))),
        })
        .map(drop)
    }

    /// The newest manifest, if this epoch is still its claim.
    pub(crate) fn claimed<'m>(&self, newest: Option<&'m Manifest>, epoch: u64) -> Result<&'m Manifest, ConnectorError> {
        match newest {
            Some(manifest) if manifest.epoch == epoch => Ok(manifest),
            Some(manifest) => Err(fenced(&self.stream, &format!("epoch {epoch} is over, {} holds", manifest.epoch))),
            None => Err(fenced(&self.stream, &format!("epoch {epoch} is over, its manifests have been removed"))),
        }
    }

    fn add(&self, manifest: &Manifest) -> Result<Added, ConnectorError> {
        let temporary = format!("{}/new-{}", self.directory, manifest.token);
        let target = self.path(manifest.number);
        let write = || {
            let bytes = manifest.encode()?;
            let mut file = self.disk.create(&temporary)?;
            file.write_all(&bytes)
                .and_then(|()| crate::folder::sync_file(&file))
                .map_err(|error| crate::disk::failed("write the file", &temporary, error))?;
            self.disk.link(&temporary, &target)
        };
        let linked = write();
        if !matches!(linked, Ok(true)) {
            // The first failure is the one to report.
            let removed = self.disk.remove_file(&temporary);
            return match linked {
                // A claim has swept it away: whoever still holds the right goes again.
                Err(error) if error.code == FILE_MISSING => Ok(Added::Lost),
                Err(error) => Err(error),
                Ok(_) => removed.map(|()| Added::Lost),
            };
        }
        let commits = manifest.step == Step::Commit;
        if commits {
            host_ffi::mark("dest.commit.sent");
        }
        let added = self.confirm(manifest).map_err(|error| error.with_commit_state(CommitState::AfterCommitUnknown))?;
        if commits && matches!(added, Added::Yes) {
            host_ffi::mark("dest.commit.confirmed");
        }
        Ok(added)
    }

    /// Makes the link durable and makes sure that it is part of the chain: a number that was taken, overtaken and cleared away
    /// can be linked again by a writer that slept.
    fn confirm(&self, manifest: &Manifest) -> Result<Added, ConnectorError> {
        self.disk.sync_dir(&self.directory)?;
        self.disk.remove_file(&format!("{}/new-{}", self.directory, manifest.token))?;
        let newest = self.numbers()?.into_iter().max().unwrap_or(0);
        if newest > manifest.number {
            match self.read(manifest.number + 1)? {
                Some(next) if next.parent.as_ref() == Some(&manifest.token) => {}
                Some(_) => {
                    self.disk.remove_file(&self.path(manifest.number))?;
                    return Ok(Added::Lost);
                }
                // Nobody can tell any more. The next claim reads what became of it.
                None => {
                    let message = format!("whether step {} of stream `{}` counts is not known", manifest.number, self.stream);
                    return Err(ConnectorError::new(ErrorCategory::TransientDb, "commit_unknown", message).with_hint(
                        "other writers went on while this one stood still: the next attempt goes on from what is durable",
                    ));
                }
            }
        }
        if newest == manifest.number && newest > KEPT_MANIFESTS {
            self.clear(newest - KEPT_MANIFESTS)?;
        }
        Ok(Added::Yes)
    }

    /// Removes manifests that were written and never linked. A writer that is about to link one finds it gone, and looks again.
    pub(crate) fn sweep_unlinked(&self) -> Result<(), ConnectorError> {
        for name in self.disk.list(&self.directory)?.iter().filter(|name| name.starts_with("new-")) {
            self.disk.remove_file(&format!("{}/{name}", self.directory))?;
        }
        Ok(())
    }

    fn clear(&self, up_to: u64) -> Result<(), ConnectorError> {
        for number in self.numbers()?.into_iter().filter(|number| *number <= up_to) {
            self.disk.remove_file(&self.path(number))?;
        }
        Ok(())
    }
}

fn join(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    parts.join("/")
}

/// What a commit adds to the open generation.
pub(crate) struct Commit<'a> {
    pub(crate) receipt: &'a rapidbyte_sdk::Receipt,
    pub(crate) files: &'a [StagedFile],
    pub(crate) columns: Option<&'a [Column]>,
    /// Up to where the changes are covered by it; 0 for rows.
    pub(crate) applied: u64,
    /// The directory in which its files are visible at once, for an open-ended generation.
    pub(crate) visible: Option<&'a str>,
}

impl Commit<'_> {
    /// Puts receipt and files into the manifest if the receipt is the successor of the one there.
    pub(crate) fn apply(&self, control: &Control, manifest: &mut Manifest) -> Result<(), ConnectorError> {
        let Some(open) = manifest.open.as_mut().filter(|open| open.number == self.receipt.generation) else {
            return Err(fenced(&control.stream, &format!("generation {} is not open any more", self.receipt.generation)));
        };
        let seq = open.receipt(&self.receipt.partition).map_or(0, |receipt| receipt.seq);
        if seq + 1 != self.receipt.seq {
            let detail = format!("commit {} of partition `{}` follows {seq}", self.receipt.seq, self.receipt.partition);
            return Err(fenced(&control.stream, &detail));
        }
        open.set_receipt(self.receipt);
        open.applied = open.applied.max(self.applied);
        crate::evolution::merge(&control.stream, &mut open.columns, self.columns.unwrap_or_default())?;
        let Some(directory) = self.visible else {
            open.files.extend_from_slice(self.files);
            return Ok(());
        };
        let (number, columns) = (open.number, open.columns.clone());
        let before = manifest.published.as_ref().map_or(0, |published| published.rows);
        let rows = before + self.files.iter().filter(|file| file.kind == FileKind::Data).map(|file| file.rows).sum::<u64>();
        manifest.show(Published { number, rows, directory: directory.to_owned(), columns });
        Ok(())
    }
}

impl Manifest {
    /// Gives the open generation up. Its number is followed by one that nobody uses: no open generation and its number as the
    /// newest would mean that it was published.
    pub(crate) fn discard_open(&mut self) {
        if self.open.take().is_some() {
            self.newest_generation += 1;
        }
    }

    /// Closes the open generation: its rows are what readers see. One that goes on with changes stays open.
    pub(crate) fn publish(&mut self, directory: &str, goes_on: bool) {
        if let Some(OpenGeneration { number, files, columns, .. }) = self.open.clone() {
            let rows = files.iter().filter(|file| file.kind == FileKind::Data).map(|file| file.rows).sum();
            self.open = self.open.take().filter(|_| goes_on).map(|open| OpenGeneration { files: Vec::new(), ..open });
            self.show(Published { number, rows, directory: directory.to_owned(), columns });
        }
    }

    /// Readers see this from now on.
    fn show(&mut self, published: Published) {
        let now = now_ms();
        self.retired.retain(|retired| retired.in_use(now));
        let before = self.published.replace(published).map(|before| Retired { directory: before.directory, at_ms: now });
        self.retired.extend(before);
    }
}

impl Retired {
    /// Whether a reader that opened it when it was visible may still be at it.
    pub(crate) fn in_use(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.at_ms) < GRACE_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rapidbyte_sdk::testing::FakeHost;
    use tempfile::TempDir;

    #[test]
    fn a_commit_whose_number_was_cleared_away_has_an_unknown_outcome_and_may_be_tried_again() {
        FakeHost::install();
        let dir = TempDir::new().unwrap();
        let control = Control::new(Disk::new(dir.path().to_owned()), &StreamName::new("orders"));
        let append =
            |step| control.change(|newest| Ok(newest.map_or_else(|| control.first("id", "p", "s"), |m| control.next(m, step))));
        append(Step::Claim).unwrap();
        // It stands still, while so many others commit that its number and the one after it are gone.
        let slow = control.next(&control.newest().unwrap().unwrap(), Step::Commit);
        for _ in 0..KEPT_MANIFESTS + 3 {
            append(Step::Commit).unwrap();
        }
        let newest = control.newest().unwrap().unwrap();
        let error = control.add(&slow).map(|_| ()).unwrap_err();
        assert_eq!((error.category, error.code.as_str()), (ErrorCategory::TransientDb, "commit_unknown"));
        assert_eq!((error.retryable, error.safe_to_retry), (true, true));
        assert_eq!(error.commit_state, CommitState::AfterCommitUnknown);
        assert_eq!(control.newest().unwrap().unwrap(), newest);
        append(Step::Commit).unwrap();
    }
}
