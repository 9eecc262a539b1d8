//! Damages inputs: blindly, with numbers and words that parsers stumble over, and with pieces of other inputs.

use rand::Rng;
use rand::rngs::SmallRng;
use std::ops::Range;

/// Inputs do not grow beyond this.
const BYTES_MAX: usize = 32 << 10;
const CHANGES_MAX: usize = 4;

/// Between one and some changes. `other` is an input of the same kind, to take pieces from.
pub fn mutate(rng: &mut SmallRng, input: &mut Vec<u8>, other: &[u8], words: &[&[u8]]) {
    // One change alone, mostly: of several, the first that is refused hides the others.
    let changes = if rng.random() { 1 } else { rng.random_range(1..=CHANGES_MAX) };
    for _ in 0..changes {
        change(rng, input, other, words);
    }
    input.truncate(BYTES_MAX);
}

fn change(rng: &mut SmallRng, input: &mut Vec<u8>, other: &[u8], words: &[&[u8]]) {
    let place = rng.random_range(0..=input.len());
    match rng.random_range(0..13) {
        0 => {
            let bit = rng.random_range(0..8);
            with_byte(input, place, |byte| byte ^ (1 << bit));
        }
        10 | 11 => {
            let step = [1, 2, 254, 255][rng.random_range(0..4)];
            with_byte(input, place, |byte| byte.wrapping_add(step));
        }
        1 => {
            let random = rng.random();
            with_byte(input, place, |_| random);
        }
        2 => {
            let random: Vec<u8> = (0..rng.random_range(1..6)).map(|_| rng.random()).collect();
            input.splice(place..place, random);
        }
        3 => drop(input.drain(piece(rng, input.len(), 16))),
        4 => input.truncate(place),
        5 => {
            let again = input[piece(rng, input.len(), 256)].to_vec();
            input.splice(place..place, again);
        }
        6 => put(input, place, &long(awkward(rng))),
        7 => {
            let bytes = long(awkward(rng));
            input.splice(place..place, bytes);
        }
        8 if !words.is_empty() => {
            let word = words[rng.random_range(0..words.len())];
            let gone = piece(rng, input.len(), 12);
            let replaced = if rng.random() { gone } else { place..place };
            input.splice(replaced, word.iter().copied());
        }
        9 => number(rng, input),
        _ => {
            let from = rng.random_range(0..=other.len());
            input.truncate(place);
            input.extend_from_slice(&other[from..]);
        }
    }
}

fn with_byte(input: &mut [u8], place: usize, new: impl FnOnce(u8) -> u8) {
    if let Some(byte) = input.get_mut(place) {
        *byte = new(*byte);
    }
}

fn put(input: &mut Vec<u8>, place: usize, bytes: &[u8]) {
    let end = (place + bytes.len()).min(input.len());
    input.splice(place..end, bytes.iter().copied());
}

fn piece(rng: &mut SmallRng, length: usize, longest: usize) -> Range<usize> {
    let begin = rng.random_range(0..=length);
    let end = (begin + rng.random_range(0..=longest)).min(length);
    begin..end
}

/// Writes another number over the first run of digits at or after a random place.
fn number(rng: &mut SmallRng, input: &mut Vec<u8>) {
    let from = rng.random_range(0..=input.len());
    let Some(begin) = input[from..].iter().position(u8::is_ascii_digit).map(|at| from + at) else { return };
    let end = input[begin..].iter().position(|byte| !byte.is_ascii_digit()).map_or(input.len(), |at| begin + at);
    input.splice(begin..end, awkward(rng).to_string().into_bytes());
}

/// Near a power of two, of either sign: lengths, counts and times that overflow something.
fn awkward(rng: &mut SmallRng) -> i64 {
    let power = 1i64.rotate_left(rng.random_range(0..64));
    let near = power.wrapping_add(rng.random_range(-2..=2));
    if rng.random() { near } else { near.wrapping_neg() }
}

/// An Avro long: zig-zag, seven bits a byte.
pub fn long(number: i64) -> Vec<u8> {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}
