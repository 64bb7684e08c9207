//! What the system says of processes. Linux.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

/// Fields of `/proc/<pid>/stat` after the command's name.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// Whether a process exists and is not merely unreaped.
pub fn exists(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| fields.first().is_some_and(|state| state != "Z"))
}

/// A process and all below it.
pub fn children_of(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        if let Some(parent) = stat(pid).and_then(|fields| fields.get(1)?.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let (mut tree, mut open) = (Vec::new(), vec![root]);
    while let Some(pid) = open.pop() {
        tree.push(pid);
        open.extend(children.get(&pid).into_iter().flatten());
    }
    tree
}

/// The sum of the peaks of resident memory of a process and all below it now, in bytes. A process that has ended counts nothing:
/// sample it while it runs, and keep the largest.
pub fn peak_memory_of_tree(root: u32) -> u64 {
    children_of(root).into_iter().filter_map(peak_memory).sum()
}

fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// What a process's open file descriptors point at; `None` when it is gone or of another user.
pub fn open_files(pid: u32) -> Option<Vec<String>> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    Some(entries.flatten().filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned())).collect())
}

/// How many threads a process has.
pub fn threads_of(pid: u32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{pid}/task")).ok()?.count())
}

/// Sends a signal by its short name (`INT`, `TERM`, `KILL`) to one process.
///
/// # Panics
/// When it can't be sent.
#[track_caller]
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(sent.is_ok_and(|status| status.success()), "could not send SIG{name} to process {pid}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_measured() {
        let me = std::process::id();
        assert!(exists(me) && children_of(me).contains(&me));
        // Touched, so that it is resident.
        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(peak_memory_of_tree(me) > block.len() as u64, "{}", block[block.len() - 1]);
        assert!(open_files(me).is_some_and(|files| !files.is_empty()));
        assert!(threads_of(me).is_some_and(|threads| threads >= 1));
    }
}
