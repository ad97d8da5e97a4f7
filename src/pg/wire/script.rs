//! A script with the data of its COPYs behind it: nothing is waited for before all of it is sent.

use std::time::Duration;

use bytes::BufMut as _;
use postgres_protocol::message::frontend;

use super::{Client, GLANCE, rows_in_tag};
use crate::error::ServerError;

impl Client {
    /// Begins to run statements without parameters. Those that are `COPY … FROM STDIN` take what [`Client::put_data`] sends, one
    /// after the other. When one fails, the server passes over all that was meant for those behind it.
    pub fn begin_script(&mut self, sql: &str) -> Result<(), ServerError> {
        let mut out = std::mem::take(&mut self.outbox);
        out.clear();
        let built = frontend::query(sql, &mut out);
        let sent = match built {
            Ok(()) => self.push_out(&out),
            Err(error) => Err(ServerError { message: error.to_string(), ..Default::default() }),
        };
        self.outbox = out;
        sent
    }

    /// Sends data of the COPY that is the next to take some.
    pub fn put_data(&mut self, data: &[u8]) -> Result<(), ServerError> {
        if data.is_empty() {
            return Ok(());
        }
        let mut head = [0; 5];
        let (mut tag, mut length) = head.split_at_mut(1);
        tag.put_u8(b'd');
        length.put_u32(data.len() as u32 + 4);
        self.push_out(&head)?;
        self.push_out(data)
    }

    /// No more data is to come for that COPY.
    pub fn end_data(&mut self) -> Result<(), ServerError> {
        self.push_out(&[b'c', 0, 0, 0, 4])
    }

    /// Waits until all statements are executed: how many rows each of them tells of.
    pub fn finish_script(&mut self) -> Result<Vec<u64>, ServerError> {
        let mut rows = Vec::new();
        let mut failure = None;
        loop {
            let frame = self.receive()?;
            match frame.tag {
                b'C' => rows.push(rows_in_tag(&frame.body)),
                b'E' => failure = failure.or(Some(self.error_in(&frame.body))),
                b'Z' => return failure.map_or(Ok(rows), Err),
                _ => {}
            }
            if self.lost {
                return Err(failure.unwrap_or_else(|| ServerError::lost("the connection is lost")));
            }
        }
    }

    /// Writes however long it takes: a server that executes a statement reads nothing meanwhile.
    fn push_out(&mut self, mut bytes: &[u8]) -> Result<(), ServerError> {
        while !bytes.is_empty() {
            let written = self.transport.write_some(bytes, GLANCE).map_err(|error| self.broken(&error))?;
            bytes = &bytes[written..];
            if written == 0 {
                self.receive_more(Duration::ZERO)?;
            }
        }
        Ok(())
    }
}
