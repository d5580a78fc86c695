//! The memory of a client that gives its server no descriptor: `DMA_READ` and `DMA_WRITE` are answered by hand.

use super::message::{Header, Message, command};
use super::payload::Body;
use super::peer::{Peer, expect_dma};

/// Memory from an address on.
#[derive(Debug, Clone)]
pub struct Memory {
    /// Where it starts.
    pub iova: u64,
    /// What is in it.
    pub bytes: Vec<u8>,
    /// Commands that were answered.
    pub served: usize,
    /// The largest of them, in bytes.
    pub largest: u64,
}

impl Memory {
    /// `size` bytes at `iova`, each of them its offset's low 8 bits.
    pub fn new(iova: u64, size: usize) -> Self {
        let bytes = (0..=u8::MAX).cycle().take(size).collect();
        Self { iova, bytes, served: 0, largest: 0 }
    }

    /// What a server is answered that asks for this.
    ///
    /// # Panics
    /// When it is not within the memory, or no DMA command.
    #[track_caller]
    pub fn answer(&mut self, message: &Message) -> Message {
        let (address, count) = expect_dma(message);
        self.served += 1;
        self.largest = self.largest.max(count);
        let start = address.checked_sub(self.iova).and_then(|start| usize::try_from(start).ok());
        let range =
            start.zip(usize::try_from(count).ok()).map(|(start, count)| start..start.saturating_add(count));
        let bytes = range.and_then(|range| self.bytes.get_mut(range));
        let Some(bytes) = bytes else { panic!("the server asks for {count} bytes at {address:#x}") };
        let echo = Body::new().u64(address).u64(count);
        if message.header.command == command::DMA_READ {
            return Message::reply_to(&message.header, echo.bytes(bytes));
        }
        assert_eq!(message.body.len() as u64, 16 + count, "DMA_WRITE of {count} bytes");
        bytes.copy_from_slice(&message.body[16..]);
        Message::reply_to(&message.header, echo)
    }

    /// Serves the server's commands until the reply to `command` comes.
    ///
    /// # Errors
    /// The errno of an error reply.
    ///
    /// # Panics
    /// When something else comes.
    #[track_caller]
    pub fn serve(&mut self, peer: &mut Peer, command: &Header) -> Result<Vec<u8>, u32> {
        loop {
            let message = peer.message();
            if message.is_reply() {
                assert_eq!(message.header.id, command.id, "{message:?}");
                return message.errno().map_or(Ok(message.body), Err);
            }
            let answer = self.answer(&message);
            peer.send(&answer);
        }
    }
}
