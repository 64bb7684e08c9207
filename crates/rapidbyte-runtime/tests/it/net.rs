use crate::support::*;
use rapidbyte_config::manifest::TlsRule;
use rapidbyte_runtime::*;
use serde_json::{Value, json};
use std::future::Future;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Serves each connection on a thread of its own.
pub(crate) fn serve(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let handle = Arc::new(handle);
    let thread = std::thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            let handle = Arc::clone(&handle);
            std::thread::spawn(move || handle(socket));
        }
    });
    (port, thread)
}

fn echo() -> u16 {
    let handle = |mut socket: TcpStream| {
        let mut buffer = [0; 4096];
        while let Ok(count) = socket.read(&mut buffer) {
            if count == 0 || socket.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    };
    serve(handle).0
}

fn dial(mode: &str, host: &str, port: u16, grant: NetworkGrant) -> InstanceOptions {
    let mut options = options(json!({ "mode": mode, "host": host, "port": port, "message": "hello over there" }));
    options.grants.network = grant;
    options
}

struct Fixed(Vec<IpAddr>, AtomicUsize);

impl Fixed {
    fn new(addresses: &[&str]) -> Arc<Self> {
        Arc::new(Self(addresses.iter().map(|text| text.parse().expect("an address")).collect(), AtomicUsize::new(0)))
    }
}

impl Resolve for Fixed {
    fn resolve(&self, _name: &str) -> Pin<Box<dyn Future<Output = std::io::Result<Vec<IpAddr>>> + Send>> {
        // Every further lookup tells of the metadata service: a name that changes its mind.
        let addresses = match self.1.fetch_add(1, Ordering::Relaxed) {
            0 => self.0.clone(),
            _ => vec!["169.254.169.254".parse().expect("an address")],
        };
        Box::pin(async move { Ok(addresses) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_out_and_come_back() {
    let port = echo();
    assert_eq!(told(&dial("echo", "127.0.0.1", port, hosts(&["127.0.0.1"]))).await, "hello over there");
    assert_eq!(told(&dial("echo", "localhost", port, hosts(&["localhost"]))).await, "hello over there");
    assert_eq!(told(&dial("echo-poll", "127.0.0.1", port, hosts(&["127.0.0.1"]))).await, "hello over there");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_are_not_allowed_are_denied_before_anything_is_sent() {
    let reached = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reached);
    let (port, _thread) = serve(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let nothing = NetworkGrant::default();
    let wild =
        NetworkGrant { manifest: vec!["*".parse().expect("any"), "*.example.com".parse().expect("below")], ..nothing.clone() };
    for (host, grant) in [
        ("127.0.0.1", nothing.clone()),
        ("localhost", nothing.clone()),
        ("127.0.0.1", wild.clone()),
        ("localhost", wild.clone()),
        ("::1", wild.clone()),
        ("::ffff:127.0.0.1", wild.clone()),
        ("2130706433", hosts(&["127.0.0.1"])),
        ("0x7f.1", hosts(&["127.0.0.1"])),
        ("0177.0.0.1", hosts(&["127.0.0.1"])),
        ("127.1", hosts(&["127.0.0.1"])),
        ("0.0.0.0", hosts(&["0.0.0.0"])),
        ("::", hosts(&["::"])),
        ("169.254.169.254", hosts(&["169.254.169.254"])),
        ("::ffff:169.254.169.254", hosts(&["169.254.169.254"])),
        ("fd00:ec2::254", hosts(&["fd00:ec2::254"])),
        ("/var/run/socket", wild.clone()),
        ("user@localhost", hosts(&["localhost"])),
        ("", wild.clone()),
        ("localhost", hosts(&["localhost:1"])),
    ] {
        let said = told(&dial("dial", host, port, grant)).await;
        assert!(said.starts_with("NetCode::Denied"), "{host}: {said}");
    }
    let mut operator = hosts(&["127.0.0.1"]);
    operator.operator = Some(vec!["db.example.com".parse().expect("a host")]);
    assert!(told(&dial("dial", "127.0.0.1", port, operator)).await.contains("operator"));
    assert_eq!(reached.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_judged_by_where_it_leads_and_pinned() {
    let port = echo();
    let to = |addresses: &[&str], grant: NetworkGrant, mode: &str| {
        let mut options = dial(mode, "db.example.com", port, grant);
        options.resolver = Fixed::new(addresses);
        options
    };
    let wild = NetworkGrant { manifest: vec!["*.example.com".parse().expect("below")], ..NetworkGrant::default() };
    for (addresses, grant) in [
        (&["127.0.0.1"][..], wild.clone()),
        (&["10.0.0.1"], wild.clone()),
        (&["169.254.169.254"], hosts(&["db.example.com"])),
        (&["::ffff:169.254.169.254"], hosts(&["db.example.com"])),
        (&["64:ff9b::169.254.169.254"], hosts(&["db.example.com"])),
        (&["0.0.0.0"], hosts(&["db.example.com"])),
        (&["fe80::1"], hosts(&["db.example.com"])),
    ] {
        let said = told(&to(addresses, grant, "dial")).await;
        assert!(said.starts_with("NetCode::Denied"), "{addresses:?}: {said}");
    }
    // Named outright, a private address is fine; a bad one beside it is passed over.
    assert_eq!(told(&to(&["169.254.169.254", "127.0.0.1"], hosts(&["db.example.com"]), "echo")).await, "hello over there");

    let mut again = options(json!({ "mode": "dial-drop", "times": 100, "host": "db.example.com", "port": port }));
    again.grants.network = hosts(&["db.example.com"]);
    let resolver = Fixed::new(&["127.0.0.1"]);
    again.resolver = resolver.clone();
    read(&again).await.expect("the first answer holds, and closed sockets make room");
    assert_eq!(resolver.1.load(Ordering::Relaxed), 1);

    let unknown = told(&{
        let mut options = dial("dial", "no-such-host.invalid", port, hosts(&["no-such-host.invalid"]));
        options.resolver = Arc::new(SystemResolver);
        options
    })
    .await;
    assert!(unknown.starts_with("NetCode::NameNotFound") || unknown.starts_with("NetCode::TimedOut"), "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_are_counted_and_handles_are_not_to_be_forged() {
    let (port, _thread) = serve(|mut socket| {
        let _ = socket.read(&mut [0; 16]);
    });
    let mut many = dial("dial-many", "127.0.0.1", port, hosts(&["127.0.0.1"]));
    many.limits.max_sockets = 5;
    assert_eq!(told(&many).await, "5 then NetCode::Limit");
    assert_eq!(trap(&dial("double-drop", "127.0.0.1", port, hosts(&["127.0.0.1"]))).await.kind, TrapKind::Fault);
    for handle in [0, 1, 2, 77, u32::MAX] {
        let forged = options(json!({ "mode": "forged-handle", "handle": handle }));
        assert_eq!(trap(&forged).await.kind, TrapKind::Fault, "{handle}");
    }
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let said = told(&dial("dial", "127.0.0.1", closed, hosts(&["127.0.0.1"]))).await;
    assert!(said.starts_with("NetCode::Refused"), "{said}");
    unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_ends_at_its_deadline() {
    let (port, _thread) = serve(|mut socket| {
        let _ = socket.read(&mut [0; 16]);
    });
    for timeout in [0, 150] {
        let mut waiting = options(json!({ "mode": "read-timeout", "host": "127.0.0.1", "port": port, "timeout": timeout }));
        waiting.grants.network = hosts(&["127.0.0.1"]);
        let said = told(&waiting).await;
        let waited: u64 = said.strip_prefix("would block after ").expect("no data").parse().expect("a number");
        assert!(waited >= timeout && waited < timeout + 500, "{said}");
    }
}

/// Sends 200 pieces of 8 KiB, a little apart, as a PostgreSQL backend does.
fn drip(pause: Duration) -> u16 {
    serve(move |mut socket| {
        socket.set_nodelay(true).expect("set");
        for _ in 0..200 {
            if socket.write_all(&[7; 8192]).is_err() {
                return;
            }
            std::thread::sleep(pause);
        }
    })
    .0
}

fn sizes(said: &str) -> Vec<usize> {
    said.split(' ').filter(|word| *word != "-").map(|word| word.parse().expect("a size")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minimum_makes_reads_large_and_never_waits_for_what_does_not_come() {
    let reads = async |min: u64, port: u16| {
        let mut options = options(json!({ "mode": "reads", "host": "127.0.0.1", "port": port, "max": 1 << 20, "min": min }));
        options.grants.network = hosts(&["127.0.0.1"]);
        sizes(&told(&options).await)
    };
    let mut counts = Vec::new();
    // On a busy machine pieces pile up between two reads, with or without a minimum.
    for _ in 0..20 {
        let small = reads(1, drip(Duration::from_micros(100))).await;
        let large = reads(256 << 10, drip(Duration::from_micros(100))).await;
        assert_eq!(small.iter().sum::<usize>(), 200 * 8192);
        assert_eq!(large.iter().sum::<usize>(), 200 * 8192);
        counts.push((large.len(), small.len()));
        if large.len() * 2 < small.len() {
            break;
        }
    }
    assert!(counts.iter().any(|(large, small)| large * 2 < *small), "reads with a minimum and without: {counts:?}");
    // Pieces further apart than the pause: each comes by itself, though the minimum is far away.
    let slow = serve(|mut socket| {
        for _ in 0..5 {
            socket.write_all(&[7; 100]).expect("sent");
            std::thread::sleep(Duration::from_millis(50));
        }
    })
    .0;
    let slow = reads(256 << 10, slow).await;
    assert_eq!(slow, [100; 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_tls_required_only_a_request_to_encrypt_leaves_in_the_clear() {
    let (tell, told_bytes) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let (port, _thread) = serve(move |mut socket| {
        let mut seen = Vec::new();
        let _ = socket.read_to_end(&mut seen);
        let _ = tell.lock().expect("not poisoned").send(seen);
    });
    let mut required = hosts(&["127.0.0.1"]);
    required.tls = TlsRule::Required;
    assert_eq!(told(&dial("plaintext", "127.0.0.1", port, required)).await, "NetCode::Denied 8 NetCode::Denied");
    let seen = told_bytes.recv_timeout(LIMIT).expect("the server heard something");
    assert_eq!(seen, [0, 0, 0, 8, 4, 210, 22, 47]);
    let mut forbidden = hosts(&["127.0.0.1"]);
    forbidden.tls = TlsRule::Forbidden;
    let said = told(&dial("tls", "127.0.0.1", port, forbidden)).await;
    assert!(said.starts_with("NetCode::Denied"), "{said}");
}

pub(crate) fn tls_config(host: &str, port: u16, server_name: &str, verify: &str) -> Value {
    json!({ "mode": "tls", "host": host, "port": port, "server_name": server_name, "verify": verify })
}
