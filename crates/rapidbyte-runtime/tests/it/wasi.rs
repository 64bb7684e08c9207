use crate::support::*;
use rapidbyte_config::manifest::FsMode;
use rapidbyte_runtime::*;
use serde_json::json;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;

#[tokio::test(flavor = "multi_thread")]
async fn only_granted_directories_are_seen_and_only_as_granted() {
    let dir = tempfile::tempdir().expect("a directory");
    let (readable, writable, hidden) = (dir.path().join("r"), dir.path().join("w"), dir.path().join("h"));
    for path in [&readable, &writable, &hidden] {
        std::fs::create_dir(path).expect("made");
        std::fs::write(path.join("file"), "content").expect("written");
    }
    std::os::unix::fs::symlink(hidden.join("file"), readable.join("leak")).expect("linked");
    let grant = |host: &std::path::Path, guest: &str, mode| DirGrant { host: host.into(), guest: guest.into(), mode };
    let with = |mode: &str, path: &str| {
        let mut options = options(json!({ "mode": mode, "path": path }));
        options.grants.dirs = vec![grant(&readable, "/in", FsMode::Read), grant(&writable, "/out", FsMode::ReadWrite)];
        options
    };
    assert_eq!(told(&with("read-file", "/in/file")).await, "read: content");
    assert_eq!(told(&with("write-file", "/out/new")).await, "written");
    assert_eq!(std::fs::read_to_string(writable.join("new")).expect("there"), "written");
    let hidden = hidden.join("file");
    for path in ["/in/../h/file", "/in/leak", "/etc/passwd", "/proc/self/environ", hidden.to_str().expect("text")] {
        let said = told(&with("read-file", path)).await;
        assert!(said.starts_with("error"), "{path}: {said}");
    }
    let said = told(&with("write-file", "/in/new")).await;
    assert!(said.starts_with("error"), "{said}");
    assert!(!readable.join("new").exists());
    let said = told(&options(json!({ "mode": "read-file", "path": "/in/file" }))).await;
    assert!(said.starts_with("error"), "nothing is granted: {said}");

    let mut missing = options(json!({ "mode": "read-file" }));
    missing.grants.dirs = vec![grant(&dir.path().join("absent"), "/in", FsMode::Read)];
    match read(&missing).await {
        Err(GuestError::Host(error)) => assert_eq!(error.kind(), HostErrorKind::Grant),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_arguments_and_stdin_are_empty_but_for_grants() {
    assert_eq!(told(&options(json!({ "mode": "env" }))).await, "");
    let mut granted = options(json!({ "mode": "env" }));
    granted.grants.env = vec![("ALLOWED_VAR".into(), "yes".into())];
    assert_eq!(told(&granted).await, "ALLOWED_VAR=yes");
    assert_eq!(told(&options(json!({ "mode": "stdin" }))).await, "Ok(0) ");
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_of_wasi_are_denied() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let mut asking = options(json!({ "mode": "wasi-socket", "host": "127.0.0.1", "port": port }));
    // Not even where the host's own sockets would be allowed.
    asking.grants.network = hosts(&["127.0.0.1"]);
    let said = told(&asking).await;
    assert!(said.starts_with("error"), "{said}");
    listener.set_nonblocking(true).expect("set");
    assert!(listener.accept().is_err(), "nobody came");
}

/// Takes some bytes, then breaks.
struct Pipe(Arc<AtomicUsize>);

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        if self.0.fetch_add(bytes.len(), Ordering::Relaxed) > 1_000 {
            return Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_pipe_is_an_error_to_the_guest_and_remembered() {
    let taken = Arc::new(AtomicUsize::new(0));
    let pipe = Arc::clone(&taken);
    let mut printing = options(json!({ "mode": "print" }));
    printing.stdout = StdoutMode::To(Arc::new(move || Box::new(Pipe(Arc::clone(&pipe)))));
    let mut destination = DestinationInstance::open(&connector("destination"), &printing).await.expect("opens");
    let (_sender, receiver) = small_link();
    let outcome =
        within("the destination", destination.write(write_request(), receiver, Box::new(crate::flow::Acks::default()))).await;
    match outcome {
        Err(GuestError::Connector(error)) => assert_eq!(error.code, "report", "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(destination.output_closed());
    assert!(taken.load(Ordering::Relaxed) < 100_000, "it stopped soon");
}
