use crate::harness::{Pipe, Place, orders, position};
use dest_postgres::PostgresDestination;
use rapidbyte_sdk::testing::FakeHost;
use rapidbyte_sdk::{CommitState, Destination, ErrorCategory, InitContext, WriteMode};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

/// What happens to a COMMIT on its way.
#[derive(Clone, Copy, PartialEq)]
enum Loss {
    /// It arrives, its answer does not.
    Answer,
    /// It never arrives.
    Statement,
}

/// A proxy for one connection that cuts it at the given COMMIT. Gives its port.
fn proxy(server: u16, at: usize, loss: Loss) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut upstream = TcpStream::connect(("127.0.0.1", server)).unwrap();
        let (mut back, mut from_server) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
        let (cut, told) = std::sync::mpsc::channel::<()>();
        let answers = thread::spawn(move || {
            let mut bytes = [0; 65536];
            while let Ok(count @ 1..) = from_server.read(&mut bytes) {
                if told.try_recv().is_ok() {
                    // The answer to COMMIT: it is durable, and nobody hears of it.
                    break;
                }
                if back.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            let _ = back.shutdown(Shutdown::Both);
        });
        let (mut bytes, mut seen) = ([0; 65536], 0);
        while let Ok(count @ 1..) = client.read(&mut bytes) {
            if bytes[..count].ends_with(b"COMMIT\0") {
                seen += 1;
                if seen == at {
                    let _ = cut.send(());
                    if loss == Loss::Statement {
                        break;
                    }
                }
            }
            if upstream.write_all(&bytes[..count]).is_err() {
                break;
            }
            if seen == at {
                break;
            }
        }
        if loss == Loss::Statement {
            let _ = upstream.shutdown(Shutdown::Both);
        }
        let _ = answers.join();
        let _ = client.shutdown(Shutdown::Both);
    });
    port
}

fn lose_a_commit(loss: Loss) {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Append);
    pipe.claim();
    pipe.prepare(1, "s", &["0"]);
    // The first COMMIT makes the staging table, the second is that of the rows.
    let mut config = place.config("public");
    config["port"] = proxy(place.server.port(), 2, loss).into();
    let mut destination = PostgresDestination::init(config, InitContext::default()).unwrap();
    let host = FakeHost::install();
    host.feed(0, 1, &[orders(0..1000)]).unwrap();
    host.feed_commit(1, false, Some(position("999")));
    let error = destination.write(&pipe.write_request(1, "0", 0, 0), &mut host.input()).unwrap_err();
    assert_eq!(error.commit_state, CommitState::AfterCommitUnknown, "{error}");
    assert_eq!((error.category, error.retryable), (ErrorCategory::TransientNetwork, true));
    assert!(host.checkpoints().is_empty(), "nothing was acknowledged");
    assert!(host.marks().contains(&"dest.commit.sent".to_owned()));
    assert!(!host.marks().contains(&"dest.commit.confirmed".to_owned()));

    let claimed = pipe.claim();
    let known = claimed.receipts.first().map_or((0, 0), |receipt| (receipt.seq, receipt.rows));
    assert_eq!(known, if loss == Loss::Answer { (1, 1000) } else { (0, 0) });
    let host = FakeHost::install();
    host.feed(0, 1, &[orders(known.1 as i64..1500)]).unwrap();
    host.feed_commit(1, true, None);
    pipe.write(&host, 1, "0", known.0, known.1).unwrap();
    assert_eq!(pipe.publish(1).rows, 1500);
    assert_eq!(place.value("SELECT count(*) || ' ' || count(DISTINCT id) FROM orders"), "1500 1500");
}

#[test]
fn a_commit_whose_answer_was_lost_is_found_by_the_next_claim() {
    lose_a_commit(Loss::Answer);
}

#[test]
fn a_commit_that_never_arrived_is_not_found() {
    lose_a_commit(Loss::Statement);
}

#[test]
fn a_publication_whose_answer_was_lost_says_the_same_when_asked_again() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Append);
    pipe.load(&[orders(0..10)]);
    pipe.claim();
    pipe.prepare(2, "s", &["0"]);
    let host = FakeHost::install();
    host.feed(0, 1, &[orders(10..20)]).unwrap();
    host.feed_commit(1, true, None);
    pipe.write(&host, 2, "0", 0, 0).unwrap();
    let mut config = place.config("public");
    config["port"] = proxy(place.server.port(), 1, Loss::Answer).into();
    let mut destination = PostgresDestination::init(config, InitContext::default()).unwrap();
    let request =
        rapidbyte_sdk::PublishRequest { run: pipe.run.clone(), context: pipe.context.clone(), epoch: pipe.epoch, generation: 2 };
    let error = destination.publish(&request).unwrap_err();
    assert_eq!(error.commit_state, CommitState::AfterCommitUnknown, "{error}");
    let claimed = pipe.claim();
    assert!(claimed.generation.is_none());
    assert_eq!(pipe.publish(2).rows, 10);
    assert_eq!(place.value("SELECT count(*) || ' ' || count(DISTINCT id) FROM orders"), "20 20");
}
