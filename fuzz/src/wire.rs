//! What clients and servers send each other, and the files of the log.

use smart_sync_store::manifest::{Fidelity, put_edits};
use smart_sync_sync::fetch_plan::FetchPlan;
use smart_sync_sync::log::tile::{Tile, put_leaf, read_bundle};
use smart_sync_sync::wire::delta::Delta;
use smart_sync_sync::wire::fetch_map::FetchMap;
use smart_sync_sync::wire::locate;
use smart_sync_sync::wire::submission::Submission;

use crate::{Verdict, check_bytes, check_name};

/// The most bytes that a delta may decompress to here.
const DELTA_BYTES_MAX: u64 = 1 << 20;

/// A fetch map, and the plan that is made of it.
pub fn fetch_map(bytes: &[u8]) -> Verdict {
    let verdict = check_bytes(bytes, FetchMap::decode, FetchMap::encode);
    if let Ok(map) = FetchMap::decode(bytes) {
        check_plan(&FetchPlan::new(map.clone(), |_| Some(0)));
        check_plan(&FetchPlan::new(map, |content| {
            (content.id.as_bytes()[0] & 1 == 0).then_some(content.size / 2)
        }));
    }
    verdict
}

/// What is fetched is written inside of the contents that it belongs to.
fn check_plan(plan: &FetchPlan) {
    for (chunk, places) in (0..plan.map().frames.len()).flat_map(|frame| plan.chunks_of(frame)) {
        for place in places {
            assert!(plan.is_wanted(place.content as usize));
            let content = &plan.map().contents[place.content as usize];
            assert!(place.offset + u64::from(chunk.length) <= content.size);
        }
    }
    assert!(plan.ranges().iter().all(|range| range.bytes.start <= range.bytes.end));
}

/// A delta, compressed or not.
pub fn delta(bytes: &[u8]) -> Verdict {
    if let Ok(delta) = Delta::decode(bytes, DELTA_BYTES_MAX) {
        let again = delta.encode(1).expect("memory can be written to");
        assert_eq!(Delta::decode(&again, DELTA_BYTES_MAX).ok(), Some(delta));
        return Verdict::Accepted;
    }
    check_bytes(
        bytes,
        |bytes| Delta::decode_plain(bytes, DELTA_BYTES_MAX),
        |delta| {
            let mut out = b"ssdl\x01".to_vec();
            out.push(u8::from(delta.fidelity == Fidelity::System));
            put_edits(&mut out, delta.fidelity, &delta.edits);
            [out, delta.map.encode()].concat()
        },
    )
}

/// What a publisher sends.
pub fn submission(bytes: &[u8]) -> Verdict {
    check_bytes(bytes, Submission::decode, Submission::encode)
}

/// A question where contents lie.
pub fn locate(bytes: &[u8]) -> Verdict {
    check_bytes(bytes, locate::decode, |wanted| locate::encode(wanted))
}

/// The path of a tile.
pub fn tile_path(bytes: &[u8]) -> Verdict {
    str::from_utf8(bytes).map_or(Verdict::Refused, check_name::<Tile>)
}

/// A bundle of leaves; the first byte is their number less one.
pub fn entry_bundle(bytes: &[u8]) -> Verdict {
    let Some((width, bundle)) = bytes.split_first() else { return Verdict::Refused };
    let width = u16::from(*width) + 1;
    let read = |bundle: &[u8]| {
        read_bundle(bundle, width).map(|leaves| leaves.iter().map(|leaf| leaf.to_vec()).collect::<Vec<_>>())
    };
    check_bytes(bundle, read, |leaves| {
        let mut out = Vec::new();
        for leaf in leaves {
            put_leaf(&mut out, leaf).expect("it came out of a bundle");
        }
        out
    })
}
