//! Whether bytes begin with one whole MessagePack value, before anything is made of it. Pure; allocates nothing.
//!
//! What reads a message afterwards sets memory aside by the counts that it claims, a megabyte for each level of nesting;
//! so a count that the bytes cannot hold is refused here. Source: the MessagePack specification, "Formats".

use super::MAX_DEPTH;

/// What is wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Shape {
    /// They end within the value, or it claims to hold more than there is.
    #[error("it ends too early")]
    Short,
    /// It is nested deeper than any message of ours.
    #[error("it is nested too deeply")]
    Deep,
    /// A byte that MessagePack does not use.
    #[error("it is not MessagePack")]
    Reserved,
}

/// Walks over the first value.
pub(super) fn check(bytes: &[u8]) -> Result<(), Shape> {
    let mut rest = bytes;
    // How many values are still to come at each level that has begun.
    let mut left = [0_usize; MAX_DEPTH];
    let mut depth = 0;
    loop {
        let (skip, inside) = head(&mut rest)?;
        // A value takes a byte at the least.
        rest = rest.get(skip..).filter(|rest| inside <= rest.len()).ok_or(Shape::Short)?;
        if inside > 0 {
            *left.get_mut(depth).ok_or(Shape::Deep)? = inside;
            depth += 1;
            continue;
        }
        loop {
            let Some(above) = depth.checked_sub(1).and_then(|at| left.get_mut(at)) else { return Ok(()) };
            *above -= 1;
            if *above > 0 {
                break;
            }
            depth -= 1;
        }
    }
}

/// Takes the first byte and the length behind it: how many bytes of data follow, and how many values are inside.
fn head(rest: &mut &[u8]) -> Result<(usize, usize), Shape> {
    let (&first, after) = rest.split_first().ok_or(Shape::Short)?;
    *rest = after;
    let low = |mask: u8| usize::from(first & mask);
    Ok(match first {
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => (0, 0),
        0x80..=0x8f => (0, 2 * low(0x0f)),
        0x90..=0x9f => (0, low(0x0f)),
        0xa0..=0xbf => (low(0x1f), 0),
        0xc1 => return Err(Shape::Reserved),
        0xc4 | 0xd9 => (length::<1>(rest)?, 0),
        0xc5 | 0xda => (length::<2>(rest)?, 0),
        0xc6 | 0xdb => (length::<4>(rest)?, 0),
        // Extensions have a byte for their type.
        0xc7 => (length::<1>(rest)?.saturating_add(1), 0),
        0xc8 => (length::<2>(rest)?.saturating_add(1), 0),
        0xc9 => (length::<4>(rest)?.saturating_add(1), 0),
        0xcc | 0xd0 => (1, 0),
        0xcd | 0xd1 => (2, 0),
        0xca | 0xce | 0xd2 => (4, 0),
        0xcb | 0xcf | 0xd3 => (8, 0),
        0xd4..=0xd8 => ((1 << (first - 0xd4)) + 1, 0),
        0xdc => (0, length::<2>(rest)?),
        0xdd => (0, length::<4>(rest)?),
        0xde => (0, length::<2>(rest)?.saturating_mul(2)),
        0xdf => (0, length::<4>(rest)?.saturating_mul(2)),
    })
}

/// A big-endian number of so many bytes.
fn length<const BYTES: usize>(rest: &mut &[u8]) -> Result<usize, Shape> {
    let (number, after) = rest.split_first_chunk::<BYTES>().ok_or(Shape::Short)?;
    *rest = after;
    Ok(number.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_walked_over_to_its_end() {
        for (bytes, data) in [
            (&[0x05_u8] as &[u8], 0),
            (&[0xff], 0),
            (&[0x81, 0x01, 0x92, 0xc0, 0xc3], 0),
            (&[0xa3], 3),
            (&[0xc4, 2], 2),
            (&[0xda, 0, 5], 5),
            (&[0xc9, 0, 0, 0, 7], 8),
            (&[0xd5], 3),
            (&[0xd8], 17),
            (&[0xcb], 8),
            (&[0xdc, 0, 2, 0x90], 1),
            (&[0xdf, 0, 0, 0, 1, 0x01], 1),
        ] {
            let whole = [bytes, &vec![0; data]].concat();
            assert_eq!(check(&whole), Ok(()), "{whole:x?}");
            assert_eq!(check(&[&whole[..], &[0xc1]].concat()), Ok(()), "what follows is not looked at: {whole:x?}");
            for end in 0..whole.len() {
                assert_eq!(check(&whole[..end]), Err(Shape::Short), "{whole:x?} cut at {end}");
            }
        }
        assert_eq!(check(&[0xc1]), Err(Shape::Reserved));
    }

    #[test]
    fn a_claim_that_the_bytes_cannot_hold_and_endless_nesting_are_refused() {
        assert_eq!(check(&[0xdd; 200]), Err(Shape::Short));
        assert_eq!(check(&[0xdf, 0xff, 0xff, 0xff, 0xff, 0]), Err(Shape::Short));
        let nested = |levels: usize| [vec![0x91; levels], vec![0xc0]].concat();
        assert_eq!(check(&nested(MAX_DEPTH)), Ok(()));
        assert_eq!(check(&nested(MAX_DEPTH + 1)), Err(Shape::Deep));
    }
}
