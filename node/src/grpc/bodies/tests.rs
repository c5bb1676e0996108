use std::collections::VecDeque;
use std::future::poll_fn;

use tonic_types::StatusExt;

use super::*;

/// Gives its parts at once, and then nothing for ever.
struct Parts(VecDeque<Bytes>);

impl HttpBody for Parts {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.0.pop_front() {
            Some(part) => Poll::Ready(Some(Ok(Frame::data(part)))),
            None => Poll::Pending,
        }
    }
}

fn message(len: usize) -> Vec<u8> {
    let head = u32::try_from(len).unwrap().to_be_bytes();
    [&[0][..], &head, &vec![7; len]].concat()
}

fn bounded(budget: &Budget, on: &Connection, kind: Messages, parts: &[Vec<u8>]) -> Bounded {
    let parts = parts.iter().cloned().map(Bytes::from).collect();
    budget.bound(Body::new(Parts(parts)), on.clone(), kind)
}

async fn next(body: &mut Bounded) -> Result<(), Status> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
    frame.unwrap().map(|_| ())
}

fn reason_of(status: &Status) -> String {
    status
        .get_error_details()
        .error_info()
        .unwrap()
        .reason
        .clone()
}

#[test]
fn messages_are_found_however_the_bytes_are_cut() {
    let bytes = [message(300), message(0), message(7)].concat();
    for cut in 1..20 {
        let mut frames = Frames::default();
        for part in bytes.chunks(cut) {
            frames.read(part);
        }
        assert!(frames.between(), "{cut}");
    }
    let mut frames = Frames::default();
    assert_eq!(frames.read(&bytes), Some(0));
    assert_eq!(frames.read(&bytes[..3]), Some(3));
    assert_eq!(frames.read(&bytes[3..100]), None, "still the same one");
    assert_eq!(
        frames.read(&[&bytes[100..], &bytes[..50]].concat()),
        Some(50)
    );
}

#[tokio::test]
async fn a_connection_has_a_share_and_gives_it_back() {
    let (budget, one, other) = (
        Budget::default(),
        Connection::default(),
        Connection::default(),
    );
    let large = message(CONNECTION_BYTES - HEAD);
    let mut whole = bounded(&budget, &one, Messages::One, std::slice::from_ref(&large));
    next(&mut whole).await.unwrap();
    let mut more = bounded(&budget, &one, Messages::One, &[message(1)]);
    let refused = next(&mut more).await.unwrap_err();
    assert_eq!(reason_of(&refused), "OVERLOADED");
    let mut others = bounded(&budget, &other, Messages::One, &[message(1)]);
    next(&mut others).await.unwrap();
    drop(whole);
    let mut again = bounded(&budget, &one, Messages::One, &[large]);
    next(&mut again).await.unwrap();
}

#[tokio::test]
async fn all_connections_together_have_no_more_than_the_listeners_budget() {
    let budget = Budget::default();
    let large = message(CONNECTION_BYTES - HEAD);
    let mut held = Vec::new();
    let refused = loop {
        let parts = std::slice::from_ref(&large);
        let mut body = bounded(&budget, &Connection::default(), Messages::One, parts);
        match next(&mut body).await {
            Ok(()) => held.push(body),
            Err(status) => break status,
        }
    };
    assert_eq!(held.len(), LISTENER_BYTES / CONNECTION_BYTES);
    assert_eq!(reason_of(&refused), "OVERLOADED");
}

#[tokio::test]
async fn a_stream_holds_only_the_message_under_way() {
    let (budget, on) = (Budget::default(), Connection::default());
    let half = message(CONNECTION_BYTES / 2);
    let parts = [half.clone(), half.clone(), half[..9].to_vec(), half];
    let mut stream = bounded(&budget, &on, Messages::Many, &parts);
    for left in [0, 0, 9] {
        next(&mut stream).await.unwrap();
        assert_eq!(on.bytes.available_permits(), CONNECTION_BYTES - left);
    }
    drop(stream);
    assert_eq!(on.bytes.available_permits(), CONNECTION_BYTES);
    assert_eq!(budget.0.available_permits(), LISTENER_BYTES);
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_or_silent_is_answered_in_time() {
    let (budget, on) = (Budget::default(), Connection::default());
    let (whole, part) = (message(10), message(10)[..8].to_vec());
    for (kind, parts, reason, within) in [
        (Messages::One, vec![], "REQUEST_TOO_SLOW", MESSAGE_TIME),
        (
            Messages::One,
            vec![part.clone()],
            "REQUEST_TOO_SLOW",
            MESSAGE_TIME,
        ),
        // Whole, but the client never ends its side.
        (
            Messages::One,
            vec![whole.clone()],
            "REQUEST_TOO_SLOW",
            MESSAGE_TIME,
        ),
        (Messages::Many, vec![part], "REQUEST_TOO_SLOW", MESSAGE_TIME),
        (Messages::Many, vec![whole], "STREAM_IDLE", IDLE_TIME),
    ] {
        let began = Instant::now();
        let mut body = bounded(&budget, &on, kind, &parts);
        for _ in &parts {
            next(&mut body).await.unwrap();
        }
        let status = next(&mut body).await.unwrap_err();
        assert_eq!(reason_of(&status), reason);
        let took = began.elapsed();
        assert!(took >= within && took < within * 2, "{took:?}");
    }
}

#[test]
fn streams_of_one_connection_are_few() {
    let on = Connection::default();
    let places: Vec<_> = (0..CONNECTION_STREAMS)
        .map(|_| on.stream().unwrap())
        .collect();
    assert_eq!(reason_of(&on.stream().unwrap_err()), "OVERLOADED");
    drop(places);
    assert!(on.stream().is_ok());
}
