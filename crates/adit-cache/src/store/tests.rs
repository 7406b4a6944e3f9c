//! What is stored is found, whole or not at all.

use std::future::poll_fn;

use super::*;
use crate::meta::tests::response;
use crate::purge::What;

const ROOM: Room = Room { memory: 1 << 20, disk: 1 << 30, inactive: Duration::from_secs(3600) };

fn now() -> SystemTime {
    SystemTime::now()
}

async fn put(store: &Arc<Store>, target: &str, size: usize) -> Arc<Object> {
    let mut meta = response("a", target);
    meta.sequence = store.sequence();
    let mut fill = store.fill(meta);
    for part in body(size).chunks(10_000) {
        assert!(fill.write(Bytes::copy_from_slice(part)).await);
    }
    fill.finish().await.unwrap()
}

fn body(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index % 251) as u8).collect()
}

async fn read(object: &Object) -> Result<Vec<u8>, Broken> {
    let mut reader = object.read(0, None);
    let mut body = Vec::new();
    while let Some(part) = poll_fn(|cx| reader.poll_next(cx)).await {
        body.extend_from_slice(&part?);
    }
    Ok(body)
}

async fn get(store: &Arc<Store>, target: &str) -> Option<Found> {
    store.find(&format!("https://a{target}"), now()).await
}

fn scanned(store: &Store) {
    while !store.is_complete.load(Ordering::Acquire) {
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn what_is_stored_is_found_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let sizes = [("/empty", 0), ("/small", 1000), ("/large", 1_000_000)];
    let store = Store::open(folder.path(), ROOM).unwrap();
    for (target, size) in sizes {
        put(&store, target, size).await;
        assert_eq!(read(&get(&store, target).await.unwrap().object).await.unwrap(), body(size));
    }
    assert!(get(&store, "/other").await.is_none());
    drop(store);
    for _ in 0..2 {
        let store = Store::open(folder.path(), ROOM).unwrap();
        // Found before and after everything there is known.
        for (target, size) in sizes {
            let found = get(&store, target).await.unwrap();
            assert_eq!(read(&found.object).await.unwrap(), body(size), "{target}");
            assert_eq!(found.object.length(), Some(size as u64));
        }
        scanned(&store);
        assert_eq!(store.stats().objects, 3);
        assert!(get(&store, "/other").await.is_none());
    }
}

#[tokio::test]
async fn what_breaks_off_is_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), ROOM).unwrap();
    for size in [10, 1_000_000] {
        let mut fill = store.fill(response("a", "/x"));
        let follower = fill.object();
        fill.write(body(size).into()).await;
        drop(fill);
        assert_eq!(read(&follower).await, Err(Broken));
        assert!(get(&store, "/x").await.is_none());
    }
    assert_eq!(fs::read_dir(folder.path().join(WRITING)).unwrap().count(), 0, "nothing is left behind");
}

#[tokio::test]
async fn a_torn_file_is_never_served() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), ROOM).unwrap();
    put(&store, "/x", 500_000).await;
    let path = store.path(number("https://a/x")).unwrap();
    drop(store);
    let good = fs::read(&path).unwrap();
    // Another run of the machine: what the disk has made of it is not to be trusted.
    for tear in [&good[..good.len() / 2], &[&good[..100], b"torn", &good[104..]].concat()] {
        fs::write(&path, tear).unwrap();
        // A file keeps its age when it is torn.
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(now() - Duration::from_secs(60))
            .unwrap();
        fs::write(folder.path().join(BOOT), "another").unwrap();
        let store = Store::open(folder.path(), ROOM).unwrap();
        assert!(get(&store, "/x").await.is_none());
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn room_is_made_and_what_is_unused_goes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Room { disk: 400_000, memory: 100_000, ..ROOM }).unwrap();
    scanned(&store);
    for index in 0..100 {
        put(&store, &format!("/{index}"), 10_000).await;
    }
    let stats = store.stats();
    assert!(stats.bytes <= 400_000 && stats.objects > 20, "{stats:?}");
    store.sweep(now() + Duration::from_secs(3590));
    assert_eq!(store.stats().objects, stats.objects);
    store.sweep(now() + Duration::from_secs(3700));
    assert_eq!(store.stats().objects, 0);
    assert!(get(&store, "/99").await.is_none());
    let files = fs::read_dir(folder.path()).unwrap().flatten().filter(|entry| entry.path().is_dir());
    assert_eq!(files.map(|folder| fs::read_dir(folder.path()).unwrap().count()).sum::<usize>(), 0);
}

#[tokio::test]
async fn purges_count_at_once_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), ROOM).unwrap();
    for target in ["/a/1", "/a/2", "/b/1"] {
        put(&store, target, 10).await;
    }
    let early = store.fill(response("a", "/a/3"));
    let purge = |what, soft| Purge { what, soft, tunnel: None };
    store.purge(purge(What::Prefix("https://a/a/".into()), false), now()).unwrap();
    assert!(get(&store, "/a/1").await.is_none());
    early.finish().await.unwrap();
    assert!(get(&store, "/a/3").await.is_none(), "it was asked for before the purge");
    put(&store, "/a/1", 20).await;
    assert_eq!(get(&store, "/a/1").await.unwrap().object.length(), Some(20), "this one came after it");
    store.purge(purge(What::Url("https://a/b/1".into()), true), now()).unwrap();
    assert!(get(&store, "/b/1").await.unwrap().purged);
    drop(store);
    let store = Store::open(folder.path(), ROOM).unwrap();
    assert!(get(&store, "/a/2").await.is_none(), "nobody had asked for it before");
    assert!(get(&store, "/b/1").await.unwrap().purged);
    // Confirmed, it counts again.
    let stale = get(&store, "/b/1").await.unwrap().object;
    let meta = Meta { sequence: store.sequence(), ..stale.meta.clone() };
    store.confirm(&stale, meta).await;
    assert!(!get(&store, "/b/1").await.unwrap().purged);
    drop(store);
    let store = Store::open(folder.path(), ROOM).unwrap();
    let again = get(&store, "/b/1").await.unwrap();
    assert!(!again.purged);
    assert_eq!(read(&again.object).await.unwrap(), body(10));
    store.purge(purge(What::All, false), now()).unwrap();
    assert!(get(&store, "/a/1").await.is_none() && get(&store, "/b/1").await.is_none());
}

#[tokio::test]
async fn without_a_disk_small_things_are_kept_and_large_ones_pass() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Room { disk: 0, ..ROOM }).unwrap();
    put(&store, "/small", 1000).await;
    assert_eq!(read(&get(&store, "/small").await.unwrap().object).await.unwrap(), body(1000));
    let mut fill = store.fill(response("a", "/large"));
    let follower = fill.object();
    // The reader comes when it passes already.
    let reading = tokio::spawn(async move { read(&follower).await });
    for part in body(3_000_000).chunks(100_000) {
        assert!(fill.write(Bytes::copy_from_slice(part)).await);
    }
    assert!(!fill.is_kept() && fill.finish().await.is_none());
    assert_eq!(reading.await.unwrap().unwrap(), body(3_000_000));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
