//! What a datagram says: whose it is, which one it is, and bytes that only this one can have.

use std::net::{Ipv6Addr, SocketAddr};

use crate::noise::Noise;

/// Client, number, direction.
const HEAD_LEN: usize = 13;

/// The least a datagram can say.
pub(super) const LEN_MIN: usize = HEAD_LEN + 4;

/// A datagram of a client, or for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) client: u32,
    /// Rises with each datagram of the client, or for it.
    pub(super) number: u64,
    pub(super) to_server: bool,
}

// === impl Message ===

impl Message {
    /// As so many bytes, at least [`LEN_MIN`].
    pub(super) fn write(self, bytes: &mut Vec<u8>, len: usize) {
        bytes.extend(self.client.to_be_bytes());
        bytes.extend(self.number.to_be_bytes());
        bytes.push(self.to_server.into());
        // The length is part of it: whatever is cut or joined shows.
        bytes.extend((len as u32).to_be_bytes());
        let mut left = len - LEN_MIN;
        while left > 0 {
            let noise = self.noise().at((len - left) as u64, left);
            bytes.extend(noise);
            left -= noise.len();
        }
    }

    /// From bytes that must be those of one message.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (client, rest) = bytes.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (&to_server, rest) = rest.split_first()?;
        let (len, noise) = rest.split_first_chunk()?;
        let message = Self {
            client: u32::from_be_bytes(*client),
            number: u64::from_be_bytes(*number),
            to_server: to_server == 1,
        };
        let is_whole = u32::from_be_bytes(*len) as usize == bytes.len();
        let is_own = || message.noise().differs(LEN_MIN as u64, noise).is_none();
        (is_whole && is_own()).then_some(message)
    }

    fn noise(self) -> Noise {
        Noise::new(u64::from(self.client) * 7919 + self.number * 104_729)
    }
}

/// The address of a client.
pub(super) fn client_addr(client: u32) -> SocketAddr {
    let port = 2000 + client as u16;
    let [high, low] = [(client >> 8) as u8, client as u8];
    if client.is_multiple_of(2) {
        SocketAddr::from(([100, 64, high, low], port))
    } else {
        let ip = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, high.into(), low.into());
        SocketAddr::from((ip, port))
    }
}

#[test]
fn a_message_is_read_only_as_it_was_written() {
    let message = Message {
        client: 7,
        number: 8,
        to_server: true,
    };
    for len in [LEN_MIN, LEN_MIN + 1, 60_000] {
        let mut bytes = Vec::new();
        message.write(&mut bytes, len);
        assert_eq!(bytes.len(), len);
        assert_eq!(Message::read(&bytes), Some(message));
        assert_eq!(Message::read(&bytes[..len - 1]), None);
        if len > LEN_MIN {
            bytes[len - 1] ^= 1;
            assert_eq!(Message::read(&bytes), None);
        }
    }
}
