//! `REGION_READ` and `REGION_WRITE`: the path that guests wait for. Nothing here allocates once buffers have grown.

use rustix::io::Errno;

use super::deferred::Deferred;
use super::engine::Engine;
use super::header::{HEADER, Header, command, u32_at, u64_at};
use super::{Access, AccessToken, Outcome, RegionDescription, Target};

/// Offset, region and count, in requests and replies.
pub(super) const FIXED: usize = 16;

/// The fixed part of an access.
#[derive(Debug, Clone, Copy)]
struct Request {
    offset: u64,
    region: u32,
    count: u32,
}

impl Request {
    fn parse(payload: &[u8]) -> Result<Self, Errno> {
        if payload.len() < FIXED {
            return Err(Errno::INVAL);
        }
        Ok(Self { offset: u64_at(payload, 0), region: u32_at(payload, 8), count: u32_at(payload, 12) })
    }

    /// Whether the access is within its region, and permitted.
    fn check<T: Target + ?Sized>(
        &self,
        target: &T,
        permits: impl FnOnce(&RegionDescription<'_>) -> bool,
    ) -> Result<(), Errno> {
        if self.region >= target.device_info().regions {
            return Err(Errno::INVAL);
        }
        let region = target.region(self.region);
        let end = self.offset.checked_add(u64::from(self.count));
        if end.is_none_or(|end| end > region.size) {
            return Err(Errno::INVAL);
        }
        if permits(&region) { Ok(()) } else { Err(Errno::PERM) }
    }

    fn access(&self, token: AccessToken) -> Access {
        Access { token, region: self.region, offset: self.offset }
    }

    fn deferred(&self, header: Header) -> Deferred {
        Deferred { header, offset: self.offset, region: self.region, count: self.count }
    }
}

/// Writes the header and the fixed part of an access's reply.
fn fill(slot: &mut [u8], header: Header, offset: u64, region: u32, count: u32) {
    slot[..HEADER].copy_from_slice(&header.to_bytes());
    slot[16..24].copy_from_slice(&offset.to_ne_bytes());
    slot[24..28].copy_from_slice(&region.to_ne_bytes());
    slot[28..32].copy_from_slice(&count.to_ne_bytes());
}

/// Bytes of a reply with `data` bytes of data.
fn reply_size(data: u32) -> u32 {
    32 + data
}

impl Engine {
    /// `REGION_READ`. The target writes into the output.
    pub(super) fn region_read<T: Target + ?Sized>(&mut self, target: &mut T, header: Header, payload: &[u8]) {
        let request = match self.check_read(target, payload) {
            Ok(request) => request,
            Err(errno) => return self.fail_command(&header, errno),
        };
        let Request { offset, region, count } = request;
        self.counters.reads += 1;
        self.counters.read_bytes += u64::from(count);
        let token = self.deferred.token();
        let at = self.out.reserve(reply_size(count) as usize);
        let outcome = match count {
            0 => Outcome::Done,
            _ => target.region_read(request.access(token), &mut self.out.slot(at)[HEADER + FIXED..]),
        };
        match outcome {
            Outcome::Done if !header.no_reply() => {
                fill(self.out.slot(at), header.reply(reply_size(count)), offset, region, count);
            }
            Outcome::Done => self.out.take_back(at),
            Outcome::Deferred => {
                self.out.take_back(at);
                self.deferred.insert(token, request.deferred(header));
            }
            Outcome::Failed(errno) => {
                self.out.take_back(at);
                self.fail_command(&header, errno);
            }
        }
    }

    fn check_read<T: Target + ?Sized>(&self, target: &T, payload: &[u8]) -> Result<Request, Errno> {
        let request = Request::parse(payload)?;
        if payload.len() != FIXED || request.count > self.limits.max_data_xfer_size {
            return Err(Errno::INVAL);
        }
        // The client has to take the reply.
        if self.peer.is_none_or(|peer| u64::from(request.count) > peer.max_data_xfer_size) {
            return Err(Errno::INVAL);
        }
        request.check(target, |region| region.readable)?;
        Ok(request)
    }

    /// `REGION_WRITE`. The target reads from the input.
    pub(super) fn region_write<T: Target + ?Sized>(
        &mut self,
        target: &mut T,
        header: Header,
        payload: &[u8],
    ) {
        let request = match self.check_write(target, payload) {
            Ok(request) => request,
            Err(errno) => return self.fail_command(&header, errno),
        };
        self.counters.writes += 1;
        self.counters.written_bytes += u64::from(request.count);
        let token = self.deferred.token();
        let outcome = match request.count {
            0 => Outcome::Done,
            _ => target.region_write(request.access(token), &payload[FIXED..]),
        };
        match outcome {
            Outcome::Done => self.written(&request.deferred(header)),
            Outcome::Deferred => self.deferred.insert(token, request.deferred(header)),
            Outcome::Failed(errno) => self.fail_command(&header, errno),
        }
    }

    fn check_write<T: Target + ?Sized>(&self, target: &T, payload: &[u8]) -> Result<Request, Errno> {
        let request = Request::parse(payload)?;
        let fits = request.count <= self.limits.max_data_xfer_size;
        if payload.len() - FIXED != request.count as usize || !fits {
            return Err(Errno::INVAL);
        }
        request.check(target, |region| region.writable)?;
        Ok(request)
    }

    /// The write of which only the header and the fixed part are there, if it goes to memory and nothing is wrong with it.
    pub(super) fn check_large_write<T: Target + ?Sized>(
        &self,
        target: &T,
        header: Header,
        fixed: [u8; FIXED],
    ) -> Option<Deferred> {
        let request = Request::parse(&fixed).ok()?;
        let fits = request.count <= self.limits.max_data_xfer_size;
        if header.size as usize != HEADER + FIXED + request.count as usize || !fits {
            return None;
        }
        request.check(target, |region| region.writable).ok()?;
        let memory = target.is_memory(request.region, request.offset, request.count.into());
        memory.then(|| request.deferred(header))
    }

    /// Answers a write.
    pub(super) fn written(&mut self, write: &Deferred) {
        if !write.header.no_reply() {
            let at = self.out.reserve(HEADER + FIXED);
            let header = write.header.reply(reply_size(0));
            fill(self.out.slot(at), header, write.offset, write.region, write.count);
        }
    }

    /// Answers a deferred read.
    pub(super) fn complete_read(&mut self, token: AccessToken, data: &[u8]) {
        let Some(read) = self.deferred.take(token) else { return };
        if !read.reads() || data.len() != read.count as usize {
            return self.fail_command(&read.header, Errno::IO);
        }
        if !read.header.no_reply() {
            let at = self.out.reserve(reply_size(read.count) as usize);
            let slot = self.out.slot(at);
            fill(slot, read.header.reply(reply_size(read.count)), read.offset, read.region, read.count);
            slot[HEADER + FIXED..].copy_from_slice(data);
        }
    }

    /// Answers a deferred write.
    pub(super) fn complete_write(&mut self, token: AccessToken) {
        let Some(write) = self.deferred.take(token) else { return };
        if write.header.command == command::REGION_WRITE {
            self.written(&write);
        } else {
            self.fail_command(&write.header, Errno::IO);
        }
    }

    /// Answers a deferred access with an error.
    pub(super) fn fail_access(&mut self, token: AccessToken, errno: Errno) {
        if let Some(access) = self.deferred.take(token) {
            self.fail_command(&access.header, errno);
        }
    }
}
