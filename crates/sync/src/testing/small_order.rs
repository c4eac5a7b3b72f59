//! Signatures whose nonce is the neutral point.
//!
//! The equation of Ed25519 holds for them, and a verifier that checks nothing else takes them. They are made here
//! with numbers of bits, because no library makes them.

use sha2::{Digest, Sha512};

use super::{secret, seed};
use crate::key::{Signature, Signer};

/// The order of the group, in bytes from the lowest.
const ORDER: Number = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// A number of 256 bits, in bytes from the lowest.
type Number = [u8; 32];

/// A signature of the message by the key of this name, with an R of small order.
pub fn small_order_signature(name: &str, message: &[u8]) -> Signature {
    let mut nonce = [0; 32];
    nonce[0] = 1;
    let key = secret(name);
    let challenge = Sha512::new_with_prefix(nonce)
        .chain_update(key.public_key().as_bytes())
        .chain_update(message)
        .finalize();
    let mut scalar: Number = Sha512::digest(seed(name))[..32].try_into().expect("a half of 64 bytes");
    scalar[0] &= 0xf8;
    scalar[31] = scalar[31] & 0x7f | 0x40;
    let mut one = [0; 32];
    one[0] = 1;
    // With R the neutral point, S·B = R + k·A holds for S = k·a.
    let response = times(&challenge, &times(&scalar, &one));
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&nonce);
    signature[32..].copy_from_slice(&response);
    Signature::from_bytes(signature)
}

/// The product of a number, in bytes from the lowest, and one below the order; modulo the order.
fn times(number: &[u8], by: &Number) -> Number {
    let mut product = [0; 32];
    for bit in (0..number.len() * 8).rev() {
        product = plus(&product, &product);
        if number[bit / 8] >> (bit % 8) & 1 == 1 {
            product = plus(&product, by);
        }
    }
    product
}

/// The sum of two numbers below the order, modulo the order.
fn plus(one: &Number, other: &Number) -> Number {
    let (mut sum, mut carry) = ([0; 32], 0);
    for (place, byte) in sum.iter_mut().enumerate() {
        let digits = u16::from(one[place]) + u16::from(other[place]) + carry;
        [*byte, _] = digits.to_le_bytes();
        carry = digits >> 8;
    }
    if sum.iter().rev().lt(ORDER.iter().rev()) {
        return sum;
    }
    let mut borrow = 0;
    for (byte, order) in sum.iter_mut().zip(ORDER) {
        let digits = 256 + u16::from(*byte) - u16::from(order) - borrow;
        [*byte, _] = digits.to_le_bytes();
        borrow = 1 - (digits >> 8);
    }
    sum
}
