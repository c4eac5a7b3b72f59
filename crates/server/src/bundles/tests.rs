use std::collections::HashSet;
use std::sync::atomic::Ordering;

use futures::TryStreamExt as _;
use futures::future::join_all;
use object_store::memory::InMemory;
use smart_sync_store::backend::StoredFile as _;
use smart_sync_store::domain::Domain;

use super::fake::{Order, Place, made, read, until};
use super::policy::History;
use super::step::tests::{manifest, step};
use super::*;

impl Bundles {
    /// Whether nothing is being computed.
    fn is_idle(&self) -> bool {
        self.state().jobs.is_empty()
    }
}

async fn idle(place: &Place) {
    until(|| place.bundles.is_idle()).await;
}

/// A ref that moved from 1 to 2.
fn moved() -> Vec<History> {
    let earlier = vec![(1, manifest(1))];
    vec![History { domain: Domain::public(), moved: 5, current: manifest(2), earlier }]
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_at_once_follow_one_computation() {
    let place = Place::new().await;
    let orders = place.fake.order();
    let step = step(1, 2);
    let readers: Vec<_> = join_all((0..40).map(|_| place.bundles.get(&step))).await;
    let reading: Vec<_> = readers.into_iter().map(|reader| tokio::spawn(read(reader.unwrap()))).collect();
    let mut expected = Vec::new();
    for piece in [&b"some"[..], &vec![7; 1_000_000], b"thing"] {
        orders.send(Order::Write(piece.to_vec())).unwrap();
        expected.extend_from_slice(piece);
    }
    let late = place.bundles.get(&step).await.unwrap();
    assert_eq!(late.length(), None);
    orders.send(Order::End).unwrap();
    for reading in reading {
        assert!(reading.await.unwrap().unwrap() == expected);
    }
    assert!(read(late).await.unwrap() == expected);
    idle(&place).await;
    let stored = place.bundles.get(&step).await.unwrap();
    assert_eq!(stored.length(), Some(expected.len() as u64));
    assert!(read(stored).await.unwrap() == expected);
    assert_eq!(place.fake.made(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_read_in_pieces() {
    let place = Place::new().await;
    let orders = place.fake.order();
    let reader = place.bundles.get(&step(1, 2)).await.unwrap();
    let long: Vec<u8> = (0..=250u8).cycle().take(3_000_000).collect();
    orders.send(Order::Write(long.clone())).unwrap();
    orders.send(Order::End).unwrap();
    assert_eq!(reader.whole().await.unwrap(), 3_000_000);
    idle(&place).await;
    for reader in [reader, place.bundles.get(&step(1, 2)).await.unwrap()] {
        let pieces: Vec<_> = reader.pieces(1_000..2_999_999).try_collect().await.unwrap();
        assert!(pieces.iter().all(|piece| piece.len() <= 256 << 10));
        assert!(pieces.concat() == long[1_000..2_999_999]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_computation_goes_on_when_everybody_has_gone_away() {
    let place = Place::new().await;
    let orders = place.fake.order();
    drop(place.bundles.get(&step(1, 2)).await.unwrap());
    orders.send(Order::Write(b"all of it".to_vec())).unwrap();
    orders.send(Order::End).unwrap();
    idle(&place).await;
    assert_eq!(read(place.bundles.get(&step(1, 2)).await.unwrap()).await.unwrap(), b"all of it");
    assert_eq!(place.fake.made(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_in_the_middle_breaks_the_answer_and_is_not_kept() {
    for is_panic in [false, true] {
        let place = Place::new().await;
        let orders = place.fake.order();
        let reader = place.bundles.get(&step(1, 2)).await.unwrap();
        orders.send(Order::Write(b"half of".to_vec())).unwrap();
        if is_panic {
            orders.send(Order::Panic).unwrap();
        }
        drop(orders);
        assert!(read(reader).await.is_err());
        idle(&place).await;
        assert!(place.bundles.variants(&step(1, 2)).is_empty());
        // For a while, it is not tried again.
        assert_eq!(place.bundles.get(&step(1, 2)).await.unwrap_err(), Refusal::Failed);
        assert_eq!(place.fake.made(), 1);
        assert_eq!(
            read(place.bundles.get(&step(1, 3)).await.unwrap()).await.unwrap(),
            made(&step(1, 3), Quality::Quick)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_asks_for_too_much_is_refused_and_it_is_not_looked_at_twice() {
    let place = Place::new().await;
    place.fake.bytes.store(1025 << 20, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(place.bundles.get(&step(1, 2)).await.unwrap_err(), Refusal::TooLarge);
    }
    assert_eq!((place.fake.estimated.load(Ordering::SeqCst), place.fake.made()), (1, 0));
    // It may be prepared all the same.
    let histories = moved();
    place.bundles.act(&histories, &HashSet::new()).await;
    idle(&place).await;
    assert_eq!(place.bundles.get(&step(1, 2)).await.unwrap().variant.quality, Quality::Quick);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_first_install_is_prepared_for_the_next_host() {
    let place = Place::new().await;
    place.fake.bytes.store(129 << 20, Ordering::SeqCst);
    let install = Step { domain: Domain::public(), from: None, to: manifest(2) };
    assert_eq!(place.bundles.get(&install).await.unwrap_err(), Refusal::TooLarge);
    let orders = place.fake.order();
    place.bundles.act(&[], &HashSet::new()).await;
    until(|| place.fake.made() == 1).await;
    assert_eq!(place.bundles.get(&install).await.unwrap_err(), Refusal::Busy);
    orders.send(Order::Write(b"all of it".to_vec())).unwrap();
    orders.send(Order::End).unwrap();
    idle(&place).await;
    assert_eq!(place.bundles.get(&install).await.unwrap().variant.quality, Quality::Quick);
    // An update of that size is made while somebody waits.
    assert_eq!(place.bundles.get(&step(1, 2)).await.unwrap().variant.quality, Quality::Quick);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_pages_were_collected_is_not_found() {
    let place = Place::new().await;
    *place.fake.fault.lock().unwrap() = Some(|| {
        let key = smart_sync_store::object::ObjectKey::page(manifest(1).root_page());
        let error = smart_sync_store::error::StoreError::Absent { key, domain: Domain::public() };
        anyhow::Error::new(error).context("reading a manifest")
    });
    assert_eq!(place.bundles.get(&step(1, 2)).await.unwrap_err(), Refusal::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_queue_is_full_the_answer_is_no_at_once() {
    let config = BundleConfig { queue: 1, ..BundleConfig::default() };
    let place = Place::with(config, |directory| Backend::local(directory).unwrap()).await;
    let orders = place.fake.order();
    let first = place.bundles.get(&step(1, 2)).await.unwrap();
    let bundles = Arc::clone(&place.bundles);
    let second = tokio::spawn(async move { read(bundles.get(&step(2, 3)).await.unwrap()).await });
    until(|| place.bundles.state().jobs.len() == 2).await;
    assert_eq!(place.bundles.get(&step(3, 4)).await.unwrap_err(), Refusal::Busy);
    // Who asks for what is under way waits for nobody.
    let joined = place.bundles.get(&step(1, 2)).await.unwrap();
    orders.send(Order::End).unwrap();
    assert_eq!(second.await.unwrap().unwrap(), made(&step(2, 3), Quality::Quick));
    assert_eq!((read(first).await.unwrap(), read(joined).await.unwrap()), (vec![], vec![]));
    idle(&place).await;
    assert_eq!(
        read(place.bundles.get(&step(3, 4)).await.unwrap()).await.unwrap(),
        made(&step(3, 4), Quality::Quick)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_shared_and_what_never_fits_is_refused() {
    let config = BundleConfig { memory_mib: 100, ..BundleConfig::default() };
    let place = Place::with(config, |directory| Backend::local(directory).unwrap()).await;
    place.fake.memory.store(101 << 20, Ordering::SeqCst);
    assert_eq!(place.bundles.get(&step(1, 2)).await.unwrap_err(), Refusal::TooLarge);
    place.fake.memory.store(70 << 20, Ordering::SeqCst);
    let orders = place.fake.order();
    assert_eq!(place.bundles.prepare(&step(3, 4), Quality::Best), Preparation::Begun);
    until(|| place.fake.made() == 1).await;
    // Who is waited for waits for memory; what is prepared comes another time.
    assert_eq!(place.bundles.prepare(&step(5, 6), Quality::Quick), Preparation::Begun);
    until(|| place.bundles.state().jobs.len() == 1).await;
    let bundles = Arc::clone(&place.bundles);
    let waiting = tokio::spawn(async move { read(bundles.get(&step(5, 6)).await.unwrap()).await });
    until(|| place.fake.estimated.load(Ordering::SeqCst) == 4).await;
    assert_eq!(place.fake.made(), 1);
    orders.send(Order::End).unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), made(&step(5, 6), Quality::Quick));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_better_one_is_not_begun_while_somebody_waits_for_the_quick_one() {
    let place = Place::new().await;
    let step = Step { domain: Domain::public(), from: None, to: manifest(2) };
    let orders = place.fake.order();
    let waiting = place.bundles.get(&step).await.unwrap();
    place.bundles.act(&[], &HashSet::new()).await;
    assert_eq!(place.bundles.state().jobs.len(), 1);
    orders.send(Order::Write(b"as quick as it may be".to_vec())).unwrap();
    orders.send(Order::End).unwrap();
    assert_eq!(read(waiting).await.unwrap(), b"as quick as it may be");
    idle(&place).await;
    place.bundles.act(&[], &HashSet::new()).await;
    idle(&place).await;
    assert_eq!(place.bundles.get(&step).await.unwrap().variant.quality, Quality::Best);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_install_that_is_prepared_makes_way_for_an_update() {
    let place = Place::new().await;
    let install = Step { domain: Domain::public(), from: None, to: manifest(2) };
    read(place.bundles.get(&install).await.unwrap()).await.unwrap();
    idle(&place).await;
    let install_orders = place.fake.order();
    place.bundles.act(&[], &HashSet::new()).await;
    until(|| place.fake.made() == 2).await;
    // The quick variant of the update has a slot of its own.
    place.bundles.act(&moved(), &HashSet::new()).await;
    until(|| !place.bundles.variants(&step(1, 2)).is_empty()).await;
    until(|| place.bundles.state().jobs.len() == 1).await;
    place.bundles.act(&moved(), &HashSet::new()).await;
    // A computation that is broken off notices with its next byte.
    until(|| install_orders.send(Order::Write(b"more".to_vec())).is_err()).await;
    idle(&place).await;
    let best_of = |step: &Step| place.bundles.variants(step)[0].variant.quality == Quality::Best;
    let update_orders = place.fake.order();
    place.bundles.act(&moved(), &HashSet::new()).await;
    until(|| place.fake.made() == 4).await;
    // What is under way is not broken off for what is less urgent.
    place.bundles.act(&moved(), &HashSet::new()).await;
    update_orders.send(Order::Write(b"small".to_vec())).unwrap();
    update_orders.send(Order::End).unwrap();
    idle(&place).await;
    assert!(best_of(&step(1, 2)) && !best_of(&install));
    place.bundles.act(&moved(), &HashSet::new()).await;
    idle(&place).await;
    assert!(best_of(&install));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_is_prepared_quickly_and_then_well() {
    let place = Place::new().await;
    let histories = moved();
    place.bundles.act(&histories, &HashSet::new()).await;
    idle(&place).await;
    let quick = place.bundles.stored(&step(1, 2)).await.unwrap();
    assert_eq!(quick.variant.quality, Quality::Quick);
    let orders = place.fake.order();
    place.bundles.act(&histories, &HashSet::new()).await;
    until(|| place.fake.made() == 2).await;
    // While the better one is made, the quick one is answered.
    let begun = place.bundles.get(&step(1, 2)).await.unwrap();
    assert_eq!(begun.variant, quick.variant);
    orders.send(Order::Write(b"small".to_vec())).unwrap();
    orders.send(Order::End).unwrap();
    idle(&place).await;
    let best = place.bundles.get(&step(1, 2)).await.unwrap();
    assert_eq!((best.variant.quality, best.length()), (Quality::Best, Some(5)));
    // Who has begun with the quick one comes to its end, now and after a break.
    let again = place.bundles.variant(&step(1, 2), |variant| *variant == quick.variant).await.unwrap();
    assert_eq!(read(begun).await.unwrap(), read(again).await.unwrap());
    place.bundles.act(&histories, &HashSet::new()).await;
    idle(&place).await;
    assert_eq!(place.fake.made(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_better_one_that_is_larger_is_not_kept_and_not_made_again() {
    let place = Place::new().await;
    let orders = place.fake.order();
    orders.send(Order::Write(b"short".to_vec())).unwrap();
    orders.send(Order::End).unwrap();
    let quick = place.bundles.get(&step(1, 2)).await.unwrap();
    assert_eq!(read(quick.clone()).await.unwrap(), b"short");
    idle(&place).await;
    for _ in 0..2 {
        place.bundles.act(&moved(), &HashSet::new()).await;
        idle(&place).await;
        assert_eq!(place.fake.made(), 2);
    }
    assert_eq!(place.bundles.get(&step(1, 2)).await.unwrap().variant, quick.variant);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hot_is_made_smaller() {
    let place = Place::new().await;
    for _ in 0..3 {
        read(place.bundles.get(&step(0, 2)).await.unwrap()).await.unwrap();
        idle(&place).await;
    }
    assert_eq!(place.fake.made(), 1);
    place.bundles.act(&[], &HashSet::new()).await;
    idle(&place).await;
    assert_eq!(place.bundles.get(&step(0, 2)).await.unwrap().variant.quality, Quality::Best);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_removed_while_a_client_downloads() {
    // A file that is open can be read to its end, whatever becomes of its name; an object store has to wait.
    for is_local in [true, false] {
        let place = Place::with(BundleConfig::default(), |directory| {
            if is_local {
                Backend::local(directory).unwrap()
            } else {
                Backend::new(Arc::new(InMemory::new()))
            }
        })
        .await;
        read(place.bundles.get(&step(1, 2)).await.unwrap()).await.unwrap();
        idle(&place).await;
        let reader = place.bundles.get(&step(1, 2)).await.unwrap();
        let gone = HashSet::from([(Domain::public(), manifest(1))]);
        place.bundles.act(&[], &gone).await;
        assert_eq!(place.bundles.variants(&step(1, 2)).len(), 1, "it is being read");
        if is_local {
            let file = place.bundles.variants(&step(1, 2)).remove(0);
            place.backend.delete(&file).await.unwrap();
        }
        assert_eq!(read(reader).await.unwrap(), made(&step(1, 2), Quality::Quick));
        place.bundles.act(&[], &gone).await;
        assert!(place.bundles.variants(&step(1, 2)).is_empty());
        let listed: Vec<Listed<BundleFile>> = place.backend.list_all().try_collect().await.unwrap();
        assert_eq!(listed, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_removed_is_computed_again() {
    let place = Place::new().await;
    let first = place.bundles.get(&step(1, 2)).await.unwrap();
    read(first.clone()).await.unwrap();
    idle(&place).await;
    place.backend.delete(&place.bundles.variants(&step(1, 2))[0]).await.unwrap();
    let second = place.bundles.get(&step(1, 2)).await.unwrap();
    assert_ne!(first.variant, second.variant);
    assert_eq!(read(second).await.unwrap(), made(&step(1, 2), Quality::Quick));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_finds_what_is_stored_and_nothing_torn() {
    let place = Place::new().await;
    let reader = place.bundles.get(&step(1, 2)).await.unwrap();
    let variant = reader.variant;
    read(reader).await.unwrap();
    idle(&place).await;
    let file = place.bundles.variants(&step(1, 2)).remove(0);
    let torn = BundleFile { step: step(3, 4), length: 100, ..file.clone() };
    place.backend.put(&torn, "short".into()).await.unwrap();
    let unfinished = place.backend.local_path(&torn).unwrap().with_extension("bundle#1");
    std::fs::write(&unfinished, "half").unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH;
    std::fs::File::options().write(true).open(&unfinished).unwrap().set_modified(old).unwrap();
    let place = place.restart().await;
    assert_eq!(place.bundles.get(&step(1, 2)).await.unwrap().variant, variant);
    assert_eq!(place.fake.made(), 1);
    assert!(place.bundles.variants(&step(3, 4)).is_empty());
    let left = std::fs::read_dir(place.directory.path().join(BundleFile::ROOT).join("public")).unwrap();
    assert_eq!(left.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_cuts_off_first_what_nobody_follows_then_the_rest() {
    let place = Place::new().await;
    let [followed, alone] = [place.fake.order(), place.fake.order()];
    let reader = place.bundles.get(&step(1, 2)).await.unwrap();
    until(|| place.fake.made() == 1).await;
    assert_eq!(place.bundles.prepare(&step(3, 4), Quality::Best), Preparation::Begun);
    until(|| place.fake.made() == 2).await;
    place.bundles.close();
    followed.send(Order::Write(b"more".to_vec())).unwrap();
    alone.send(Order::Write(b"more".to_vec())).unwrap();
    until(|| place.bundles.state().jobs.len() == 1).await;
    assert_eq!(reader.beyond(3).await.unwrap(), 4);
    assert_eq!(place.bundles.get(&step(5, 6)).await.unwrap_err(), Refusal::Busy);
    place.bundles.stop();
    followed.send(Order::Write(b"more".to_vec())).unwrap();
    assert!(read(reader).await.is_err());
    idle(&place).await;
    let listed: Vec<Listed<BundleFile>> = place.backend.list_all().try_collect().await.unwrap();
    assert_eq!(listed, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn bundles_that_are_over_the_budget_go_and_are_not_prepared_again() {
    let config = BundleConfig { store_mib: 1, ..BundleConfig::default() };
    let place = Place::with(config, |directory| Backend::local(directory).unwrap()).await;
    for from in 1..=3 {
        let orders = place.fake.order();
        orders.send(Order::Write(vec![from; 500_000])).unwrap();
        orders.send(Order::End).unwrap();
        read(place.bundles.get(&step(from, 9)).await.unwrap()).await.unwrap();
        idle(&place).await;
    }
    let earlier = vec![(1, manifest(3)), (2, manifest(2))];
    let history = History { domain: Domain::public(), moved: 5, current: manifest(9), earlier };
    place.bundles.state().settled.insert((step(3, 9), Quality::Best));
    place.bundles.act(std::slice::from_ref(&history), &HashSet::new()).await;
    idle(&place).await;
    let stored = |from| place.bundles.variants(&step(from, 9)).len();
    assert_eq!((stored(1), stored(2), stored(3)), (0, 1, 1));
    // What is larger than all of the room is sent, and not kept.
    let orders = place.fake.order();
    orders.send(Order::Write(vec![4; 2 << 20])).unwrap();
    orders.send(Order::End).unwrap();
    assert_eq!(read(place.bundles.get(&step(4, 9)).await.unwrap()).await.unwrap().len(), 2 << 20);
    idle(&place).await;
    assert_eq!(stored(4), 0);
}
