//! Keys that are ratcheted forward, and the MACs that chain lines.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::{Zeroize as _, Zeroizing};

/// Length of keys and MACs in bytes.
pub(crate) const LEN: usize = 32;

/// Epochs beyond this count as forged: at one seal a second it is reached
/// after eight years, and ratcheting so far takes about a minute.
pub(crate) const MAX_EPOCH: u64 = 1 << 28;

/// What each key is used for. Equal input under different purposes must never
/// give equal output.
const RATCHET: &[u8] = b"observer audit v1: next key";
const LINES: &[u8] = b"observer audit v1: line key";
const NAME: &[u8] = b"observer audit v1: trail name";

/// The MAC of a line; zero where there is no line before.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Link(pub(crate) [u8; LEN]);

impl Link {
    /// Reads 64 hexadecimal digits.
    pub(crate) fn from_hex(text: &[u8]) -> Option<Self> {
        let mut link = [0; LEN];
        hex::decode_to_slice(text, &mut link).ok()?;
        Some(Self(link))
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = self;
        let mut text = [0; LEN * 2];
        hex::encode_to_slice(bytes, &mut text).map_err(|_| fmt::Error)?;
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The key of one epoch. Wiped when it is dropped. On the heap, because a value
/// that is moved leaves a copy where it was.
#[derive(Clone)]
pub(crate) struct ChainKey(Box<Zeroizing<[u8; LEN]>>);

impl ChainKey {
    pub(crate) fn new(key: Box<Zeroizing<[u8; LEN]>>) -> Self {
        Self(key)
    }

    pub(crate) fn bytes(&self) -> &[u8; LEN] {
        let Self(bytes) = self;
        bytes
    }

    /// Becomes the key of the next epoch; the present one is wiped.
    #[inline(never)]
    pub(crate) fn ratchet(&mut self) {
        let next = self.derive(RATCHET);
        let Self(bytes) = self;
        bytes.zeroize();
        bytes.copy_from_slice(&*next);
    }

    /// The key that the lines of this epoch are chained with.
    #[inline(never)]
    pub(crate) fn lines(&self) -> LineKey {
        LineKey(Box::new(keyed(&self.derive(LINES))))
    }

    /// A public name for the trail that begins with this key. It does not
    /// reveal the key.
    pub(crate) fn name(&self) -> String {
        let name = self.derive(NAME);
        hex::encode(name.get(..8).unwrap_or_default())
    }

    fn derive(&self, purpose: &[u8]) -> Zeroizing<[u8; LEN]> {
        let output = keyed(self.bytes()).chain_update(purpose).finalize();
        let mut output = output.into_bytes();
        let mut derived = Zeroizing::new([0; LEN]);
        derived.copy_from_slice(&output);
        output.as_mut_slice().zeroize();
        derived
    }
}

impl fmt::Debug for ChainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChainKey(..)")
    }
}

/// Chains the lines of one epoch. Wiped when it is dropped, and on the heap, as
/// [`ChainKey`] is.
#[derive(Clone)]
pub(crate) struct LineKey(Box<Hmac<Sha256>>);

impl LineKey {
    #[inline(never)]
    pub(crate) fn link(&self, body: &[u8]) -> Link {
        let Self(keyed) = self;
        let mac = Hmac::clone(keyed).chain_update(body).finalize();
        Link(mac.into_bytes().into())
    }

    /// Compares in constant time.
    #[inline(never)]
    pub(crate) fn fits(&self, body: &[u8], Link(mac): &Link) -> bool {
        let Self(keyed) = self;
        let mac_of_body = Hmac::clone(keyed).chain_update(body);
        mac_of_body.verify_slice(mac).is_ok()
    }
}

impl fmt::Debug for LineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LineKey(..)")
    }
}

#[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
fn keyed(key: &[u8; LEN]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of every length")
}

/// How much of the stack [`forget`] overwrites, in words of eight bytes: more
/// than anything uses that handles keys.
const STACK: usize = 8192;

/// Overwrites what earlier calls left on the stack. Keys are on the heap, but a
/// function that computes with them has copies in its frame, and a copy that
/// was moved is not wiped. Such functions are not inlined, so that their frames
/// lie where this one's does.
#[inline(never)]
#[expect(
    clippy::large_stack_arrays,
    reason = "it is the stack that is overwritten"
)]
pub(crate) fn forget() {
    let mut stack = [0_u64; STACK];
    stack.zeroize();
}
