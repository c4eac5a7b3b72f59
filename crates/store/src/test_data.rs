//! Bytes for tests: reproducible, so that a failure can be repeated.

/// Bytes without any structure (xorshift64*), the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Bytes that compress well: lines of text that differ a little.
pub(crate) fn text(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 64);
    let mut line = 0u64;
    while bytes.len() < len {
        bytes.extend_from_slice(format!("setting.{seed}.{line} = the value of line {line}\n").as_bytes());
        line += 1;
    }
    bytes.truncate(len);
    bytes
}
