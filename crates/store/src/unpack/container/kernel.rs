//! Images of Linux for x86: where their header says that the compressed kernel lies.

use std::ops::Range;

/// The stretch of the image that holds the payload.
pub(crate) fn payload(head: &[u8], size: u64) -> Option<Range<u64>> {
    if head.get(0x1fe..0x200)? != [0x55, 0xaa] || head.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let long = |at: usize| head.get(at..)?.first_chunk().map(|bytes| u64::from(u32::from_le_bytes(*bytes)));
    let version = u16::from_le_bytes([head[0x206], head[0x207]]);
    let setup_sectors = match head[0x1f1] {
        0 => 4,
        sectors => u64::from(sectors),
    };
    let start = (setup_sectors + 1) * 512 + long(0x248)?;
    let end = start + long(0x24c)?;
    (version >= 0x0208 && start < end && end <= size).then_some(start..end)
}
