//! Buffers of batch bodies, kept for reuse: a new megabyte costs hundreds of page faults.

use crossbeam_channel::{Receiver, Sender, bounded};

/// A pool of empty buffers, shared by workers and senders.
pub struct BufferPool {
    give: Sender<Vec<u8>>,
    take: Receiver<Vec<u8>>,
}

impl BufferPool {
    /// Creates a pool that keeps at most `most` buffers.
    pub fn new(most: usize) -> Self {
        let (give, take) = bounded(most);
        Self { give, take }
    }

    /// Returns an empty buffer, a used one if possible.
    pub fn take(&self) -> Vec<u8> {
        self.take.try_recv().unwrap_or_default()
    }

    /// Keeps a buffer for reuse, or frees it if the pool is full.
    pub fn put_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let _ = self.give.try_send(buffer);
    }
}
