//! Blobs on the local disk and in a real S3-compatible store.

use bytes::Bytes;
use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use muster_storage::{
    Blobs, Error,
    blob::{BlobStream, Credentials, DIRECT_LARGEST, DirectOptions, Grant, Options, PIECE},
};
use sha2::{Digest, Sha256};

use crate::fixture::server;

macro_rules! on_every_store {
    ($($name:ident),+ $(,)?) => {
        mod local {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let folder = tempfile::tempdir().expect("a directory");
                    let url = format!("file://{}/blobs", folder.path().display());
                    let blobs = muster_storage::Blobs::open(&url, &Default::default()).await;
                    super::spawned(super::$name(blobs.expect("blobs"))).await;
                }
            )+
        }
        mod s3 {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    if let Some(url) = crate::fixture::server("MUSTER_TEST_S3") {
                        super::spawned(super::$name(super::open_s3(&url).await)).await;
                    }
                }
            )+
        }
    };
}

on_every_store!(
    a_good_place_passes_its_check,
    a_small_blob_is_read_as_it_was_written,
    a_large_blob_is_written_in_parts_and_hashed,
    a_blob_is_streamed_from_any_offset,
    a_blob_that_is_given_up_leaves_nothing,
    a_writer_at_rest_has_whole_parts_and_goes_on_behind_them,
    a_missing_blob_is_not_found_and_deleting_it_is_no_error,
    keys_are_unique_and_may_not_leave_their_place,
    blobs_are_listed_with_their_key_and_the_time_of_the_store,
);

fn credentials() -> Credentials {
    let variable = |name| std::env::var(name).expect("credentials for S3");
    Credentials {
        access_key_id: variable("AWS_ACCESS_KEY_ID"),
        secret_access_key: variable("AWS_SECRET_ACCESS_KEY"),
        session_token: None,
    }
}

/// As a server runs it: in a task, so what it awaits must be able to change threads.
async fn spawned(behaviour: impl Future<Output = ()> + Send + 'static) {
    if let Err(error) = tokio::spawn(behaviour).await {
        std::panic::resume_unwind(error.into_panic());
    }
}

async fn open_s3(url: &str) -> Blobs {
    let options = Options {
        credentials: Some(credentials()),
        ..Options::default()
    };
    Blobs::open(url, &options).await.expect("blobs")
}

async fn all(stream: BlobStream) -> Vec<u8> {
    let pieces: Vec<Bytes> = stream.try_collect().await.expect("the stream ends well");
    assert!(pieces.iter().all(|piece| piece.len() <= PIECE));
    pieces.concat()
}

fn sha256(data: &[u8]) -> String {
    let digest = Sha256::digest(data);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that differ from place to place.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    (0..size)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0]
        })
        .collect()
}

async fn a_good_place_passes_its_check(blobs: Blobs) {
    blobs.check().await.expect("all is well");
}

async fn a_small_blob_is_read_as_it_was_written(blobs: Blobs) {
    for data in [&b""[..], b"hello"] {
        let key = blobs.key("small");
        let put = blobs.put(&key, Bytes::copy_from_slice(data)).await;
        put.expect("written");
        assert_eq!(&blobs.get(&key).await.expect("read")[..], data);
        assert!(blobs.exists(&key).await.expect("a look"));
        assert_eq!(
            all(blobs.read(&key, 0).await.expect("a stream")).await,
            data
        );
        blobs.delete(&key).await.expect("deleted");
        assert!(!blobs.exists(&key).await.expect("a look"));
    }
}

async fn a_large_blob_is_written_in_parts_and_hashed(blobs: Blobs) {
    let data = noise(11 * 1024 * 1024 + 17);
    let key = blobs.key("large");
    let mut writer = blobs.writer(&key);
    for piece in data.chunks(200_000) {
        writer
            .write(Bytes::copy_from_slice(piece))
            .await
            .expect("written");
        assert!(
            !blobs.exists(&key).await.expect("a look"),
            "not visible before the end"
        );
    }
    assert_eq!(writer.size(), data.len() as u64);
    let info = writer.finish().await.expect("finished");
    assert_eq!(info.sha256, sha256(&data));
    assert_eq!(info.size, data.len() as u64);
    let read = all(blobs.read(&key, 0).await.expect("a stream")).await;
    assert!(read == data, "every byte comes back");
    blobs.delete(&key).await.expect("deleted");

    let small = blobs.key("large");
    let mut writer = blobs.writer(&small);
    writer
        .write(Bytes::from_static(b"ab"))
        .await
        .expect("written");
    writer
        .write(Bytes::from_static(b"c"))
        .await
        .expect("written");
    assert_eq!(
        writer.finish().await.expect("finished").sha256,
        sha256(b"abc")
    );
    assert_eq!(&blobs.get(&small).await.expect("read")[..], b"abc");
}

async fn a_blob_is_streamed_from_any_offset(blobs: Blobs) {
    let data = noise(700_000);
    let key = blobs.key("ranges");
    blobs
        .put(&key, Bytes::from(data.clone()))
        .await
        .expect("written");
    for offset in [0, 1, PIECE, 699_999] {
        let read = all(blobs.read(&key, offset as u64).await.expect("a stream")).await;
        assert!(read == data[offset..], "from {offset}");
    }
    for offset in [700_000, 900_000] {
        let read = all(blobs.read(&key, offset).await.expect("a stream")).await;
        assert!(read.is_empty(), "from {offset}");
    }
    let part = blobs.get_range(&key, 10..20).await.expect("a part");
    assert_eq!(&part[..], &data[10..20]);
    let end = data.len() as u64;
    for (range, expected) in [
        (end - 5..end + 5, 5),
        (end..end + 5, 0),
        (end + 5..end + 9, 0),
    ] {
        let part = blobs.get_range(&key, range.clone()).await;
        assert_eq!(part.expect("what is there").len(), expected, "{range:?}");
    }
}

async fn a_blob_that_is_given_up_leaves_nothing(blobs: Blobs) {
    let part = Bytes::from(noise(6 * 1024 * 1024));
    let (aborted, dropped) = (blobs.key("given-up"), blobs.key("given-up"));
    let mut writer = blobs.writer(&aborted);
    writer.write(part.clone()).await.expect("written");
    writer.abort().await.expect("aborted");
    let mut writer = blobs.writer(&dropped);
    writer.write(part).await.expect("written");
    drop(writer);
    assert!(!blobs.exists(&aborted).await.expect("a look"));
    assert!(!blobs.exists(&dropped).await.expect("a look"));
    blobs.close().await;
}

async fn a_writer_at_rest_has_whole_parts_and_goes_on_behind_them(blobs: Blobs) {
    let data = noise(11 * 1024 * 1024 + 17);
    let key = blobs.key("rest");
    let mut writer = blobs.writer(&key);
    writer
        .write(Bytes::copy_from_slice(&data[..100]))
        .await
        .expect("written");
    writer.settle().await.expect("at rest");
    assert_eq!(writer.size(), 0, "no part is whole");
    for broke in [6_000_000, 11_000_000] {
        let from = usize::try_from(writer.size()).expect("small");
        for piece in data[from..broke].chunks(200_000) {
            let piece = Bytes::copy_from_slice(piece);
            writer.write(piece).await.expect("written");
        }
        writer.settle().await.expect("at rest");
        let size = usize::try_from(writer.size()).expect("small");
        assert!(from < size && size <= broke, "{size}");
        assert_eq!(writer.sha256(), sha256(&data[..size]));
    }
    let from = usize::try_from(writer.size()).expect("small");
    let rest = Bytes::copy_from_slice(&data[from..]);
    writer.write(rest).await.expect("written");
    let info = writer.finish().await.expect("finished");
    assert_eq!(info.sha256, sha256(&data));
    let read = all(blobs.read(&key, 0).await.expect("a stream")).await;
    assert!(read == data, "every byte comes back");
    blobs.delete(&key).await.expect("deleted");
}

async fn a_missing_blob_is_not_found_and_deleting_it_is_no_error(blobs: Blobs) {
    let key = blobs.key("missing");
    assert!(blobs.get(&key).await.expect_err("missing").is_not_found());
    let stream = blobs.read(&key, 0).await.map(|_| ());
    assert!(stream.expect_err("missing").is_not_found());
    let stream = blobs.read(&key, 5).await.map(|_| ());
    assert!(stream.expect_err("missing").is_not_found());
    blobs.delete(&key).await.expect("no error");
}

async fn keys_are_unique_and_may_not_leave_their_place(blobs: Blobs) {
    assert_ne!(blobs.key("a"), blobs.key("a"));
    assert!(blobs.key("logs/x").starts_with("logs/x/"));
    for key in ["../outside", "a/../../b", "a//b"] {
        let refused = blobs.put(key, Bytes::from_static(b"x")).await;
        assert!(
            matches!(refused, Err(Error::Invalid { .. })),
            "{key}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn a_dropped_writer_leaves_no_file() {
    let folder = tempfile::tempdir().expect("a directory");
    let url = format!("file://{}", folder.path().display());
    let blobs = Blobs::open(&url, &Options::default()).await.expect("blobs");
    let mut writer = blobs.writer("folder/file");
    writer
        .write(Bytes::from(noise(3 * 1024 * 1024)))
        .await
        .expect("written");
    drop(writer);
    blobs.close().await;
    let files = std::fs::read_dir(folder.path().join("folder")).map(Iterator::count);
    assert_eq!(files.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_place_that_can_not_be_used_is_refused_with_its_cure() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("file");
    std::fs::write(&file, "x").expect("a file");
    let cases = [
        ("ftp://x".to_owned(), "file:///absolute/directory"),
        ("file://relative".to_owned(), "not absolute"),
        (format!("file://{}/sub", file.display()), "writable"),
        ("s3://bucket".to_owned(), "AWS_ACCESS_KEY_ID"),
    ];
    for (url, cure) in cases {
        let error = Blobs::open(&url, &Options::default()).await;
        let error = error.expect_err("it is refused").to_string();
        assert!(error.contains(cure), "{url}: {error}");
    }
}

#[tokio::test]
async fn a_missing_bucket_and_wrong_credentials_name_the_cure() {
    let Some(url) = server("MUSTER_TEST_S3") else {
        return;
    };
    let (address, query) = url.split_once('?').expect("a URL with an endpoint");
    let missing = open_s3(&format!("{address}-that-is-not-there?{query}")).await;
    let error = missing
        .check()
        .await
        .expect_err("no such bucket")
        .to_string();
    // A store may also hide whether a bucket is there.
    assert!(error.contains("the bucket is"), "{error}");
    let options = Options {
        credentials: Some(Credentials {
            secret_access_key: "wrong".to_owned(),
            ..credentials()
        }),
        ..Options::default()
    };
    let denied = Blobs::open(&url, &options).await.expect("blobs");
    let error = denied
        .check()
        .await
        .expect_err("access is denied")
        .to_string();
    assert!(error.contains("AWS_SECRET_ACCESS_KEY"), "{error}");
    assert!(!error.contains("wrong"), "{error}");
}

async fn blobs_are_listed_with_their_key_and_the_time_of_the_store(blobs: Blobs) {
    let before = blobs.now().await.expect("a time");
    let key = blobs.key("listed/a");
    let put = blobs.put(&key, Bytes::from_static(b"abc")).await;
    put.expect("put");
    // What is being written is not there yet.
    let mut writer = blobs.writer(&blobs.key("listed/b"));
    let written = writer.write(Bytes::from_static(b"abc")).await;
    written.expect("written");
    let listed = blobs
        .list("listed")
        .expect("a list")
        .try_collect::<Vec<_>>();
    let listed = listed.await.expect("a list");
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((listed[0].key.as_str(), listed[0].size), (key.as_str(), 3));
    // Some stores count in seconds.
    let second = jiff::SignedDuration::from_secs(1);
    assert!(listed[0].modified >= before - second, "{listed:?}");
    writer.abort().await.expect("it is given up");
    let none = blobs
        .list("nothing")
        .expect("a list")
        .try_collect::<Vec<_>>();
    assert_eq!(none.await.expect("a list"), []);
    assert!(blobs.list("../x").is_err());
}

/// Puts something as one does who has nothing but a URL.
async fn put(grant: &Grant, headers: &[(&str, String)], body: &[u8]) -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let rest = grant.url.strip_prefix("http://").expect("a plain URL");
    let (host, path) = rest.split_once('/').expect("a path");
    let mut head = format!("PUT /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut stream = tokio::net::TcpStream::connect(host).await.expect("a store");
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.write_all(b"\r\n").await.expect("sent");
    // A store that refuses may not hear it all.
    drop(stream.write_all(body).await);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).expect("a status");
    status.parse().expect("a number")
}

/// A folder of its own: others try the store out meanwhile.
async fn direct() -> Option<Blobs> {
    let url = server("MUSTER_TEST_S3")?;
    let (bucket, query) = url.split_once('?').expect("a URL with an endpoint");
    let url = format!("{bucket}/{}?{query}", uuid::Uuid::now_v7().simple());
    let options = Options {
        credentials: Some(credentials()),
        direct: Some(DirectOptions::default()),
    };
    Some(Blobs::open(&url, &options).await.expect("blobs"))
}

#[tokio::test]
async fn a_store_that_checks_what_it_gets_passes_the_check_for_direct_uploads() {
    let Some(blobs) = direct().await else { return };
    let checked = blobs.check_direct(Timestamp::now()).await;
    checked.expect("it does");
    assert_eq!(blobs.direct(), Some(false), "not encrypted");
    let listed = blobs.list("check").expect("a list");
    let left: Vec<_> = listed.try_collect().await.expect("a list");
    assert_eq!(left, [], "nothing is left");
}

#[tokio::test]
async fn a_signed_url_puts_one_blob_of_one_content_for_a_while() {
    let Some(blobs) = direct().await else { return };
    let now = Timestamp::now();
    let data = vec![7; 1_000_000];
    let size = data.len() as u64;
    let digest = sha256(&data);
    let give = |key: &str, at| {
        let given = blobs.give_out(key, size, &digest, at);
        given.expect("it can be signed").expect("it is given")
    };
    let there = async |key: &str| {
        let there = blobs.verify(key, size, &digest, Timestamp::now()).await;
        there.expect("it answers")
    };
    let key = blobs.key("direct");
    let grant = give(&key, now);
    assert!(!there(&key).await);
    let headers = grant.headers.clone();
    // Other content, of the same length; a longer one; another checksum; none at all.
    let mut other = data.clone();
    other[999_999] = 8;
    assert_eq!(put(&grant, &headers, &other).await, 400);
    let longer = [(headers[0].0, "1000001".to_owned()), headers[1].clone()];
    assert_eq!(put(&grant, &longer, &[7; 1_000_001]).await, 403);
    let forged = give(&blobs.key("direct"), now).headers[1]
        .1
        .replace('a', "b");
    let forged = [headers[0].clone(), (headers[1].0, forged + "A")];
    assert_eq!(put(&grant, &forged, &data).await, 403);
    assert_eq!(put(&grant, &headers[..1], &data).await, 403);
    assert!(!there(&key).await);
    // Another key by the same signature.
    let moved = Grant {
        url: grant.url.replace(&key, &blobs.key("direct")),
        ..grant.clone()
    };
    assert_eq!(put(&moved, &headers, &data).await, 403);
    // One that is too old.
    let late = now - SignedDuration::from_secs(901);
    let expired = give(&key, late);
    assert!(expired.expire_time < now);
    assert_eq!(put(&expired, &headers, &data).await, 403);
    assert!(!there(&key).await);

    assert_eq!(put(&grant, &headers, &data).await, 200);
    assert!(there(&key).await);
    // A second time it is the same.
    assert_eq!(put(&grant, &headers, &data).await, 200);
    assert_eq!(put(&grant, &headers, &other).await, 400);
    assert!(there(&key).await);
    assert_eq!(all(blobs.read(&key, 0).await.expect("it")).await, data);
    for (size, digest) in [(size + 1, digest.clone()), (size, sha256(b"other"))] {
        let there = blobs.verify(&key, size, &digest, now).await;
        assert!(!there.expect("it answers"));
    }
    blobs.delete(&key).await.expect("deleted");
}

#[tokio::test]
async fn what_was_put_without_a_checksum_is_read_and_compared() {
    let folder = tempfile::tempdir().expect("a directory");
    let url = format!("file://{}/blobs", folder.path().display());
    let local = Blobs::open(&url, &Options::default()).await.expect("blobs");
    let mut stores = vec![local];
    stores.extend(direct().await);
    for blobs in stores {
        let key = blobs.key("direct");
        blobs
            .put(&key, Bytes::from_static(b"abc"))
            .await
            .expect("put");
        let now = Timestamp::now();
        for (size, content, expected) in [(3, "abc", true), (3, "abd", false), (4, "abc", false)] {
            let digest = sha256(content.as_bytes());
            let there = blobs.verify(&key, size, &digest, now).await;
            assert_eq!(there.expect("it answers"), expected, "{size} {content}");
        }
        blobs.delete(&key).await.expect("deleted");
    }
}

#[tokio::test]
async fn direct_uploads_are_for_object_stores_and_for_what_one_request_takes() {
    let folder = tempfile::tempdir().expect("a directory");
    let url = format!("file://{}/blobs", folder.path().display());
    let local = Blobs::open(&url, &Options::default()).await.expect("blobs");
    let now = Timestamp::now();
    let refused = local.check_direct(now).await.expect_err("it has no URLs");
    assert!(refused.to_string().contains("S3"), "{refused}");
    let nothing = local.give_out("a/b", 1, &sha256(b""), now);
    assert_eq!(nothing.expect("no error"), None);

    let options = |endpoint: &str| Options {
        credentials: Some(Credentials::default()),
        direct: Some(DirectOptions {
            endpoint: Some(endpoint.to_owned()),
        }),
    };
    let open = async |endpoint| Blobs::open("s3://bucket/p", &options(endpoint)).await;
    let blobs = open("https://outside:9000").await.expect("blobs");
    let give = |size, digest: &str| blobs.give_out("a/b", size, digest, now);
    let given = give(1, &sha256(b"")).expect("signed").expect("given");
    let start = "https://outside:9000/bucket/p/a/b?X-Amz-Algorithm=";
    assert!(given.url.starts_with(start), "as others see it");
    assert!(!format!("{given:?}").contains("Signature"));
    let all = give(DIRECT_LARGEST, &sha256(b"")).expect("signed");
    assert!(all.is_some());
    let more = give(DIRECT_LARGEST + 1, &sha256(b"")).expect("no error");
    assert_eq!(more, None);
    assert!(give(1, "not one").is_err());
    // A plain endpoint is used only knowingly, here too.
    let plain = open("http://outside:9000").await.expect_err("refused");
    assert!(plain.to_string().contains("allow_http=true"), "{plain}");
    let bad = open("nothing").await.expect_err("refused");
    assert!(bad.to_string().contains("endpoint"), "{bad}");
}

#[tokio::test]
async fn a_store_that_takes_anything_is_refused_for_direct_uploads() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            tokio::spawn(async move {
                // Short requests come at once, and are answered before the next one.
                let mut buffer = [0; 8192];
                while matches!(stream.read(&mut buffer).await, Ok(read) if read > 0) {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    drop(stream.write_all(answer).await);
                }
            });
        }
    });
    let url = format!("s3://bucket?endpoint=http://{address}&allow_http=true");
    let options = Options {
        credentials: Some(Credentials::default()),
        direct: Some(DirectOptions::default()),
    };
    let blobs = Blobs::open(&url, &options).await.expect("blobs");
    let refused = blobs.check_direct(Timestamp::now()).await;
    let refused = refused.expect_err("it compares nothing").to_string();
    assert!(
        refused.contains("does not compare content") && refused.contains("--direct-uploads"),
        "{refused}"
    );
}
