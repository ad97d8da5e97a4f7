//! The first exchange: TLS, startup, and every way of proving who we are that we take part in.

use bytes::{Buf, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::frontend;

use super::transport::remaining;
use super::{Client, Frame, Purpose};
use crate::error::ServerError;
use crate::pg::Conninfo;
use crate::pg::conninfo::{Attempt, Binding};

impl Client {
    /// Asks for TLS when this attempt wants it.
    pub(super) fn negotiate_tls(&mut self, attempt: &Attempt) -> Result<(), ServerError> {
        let Some(encryption) = &attempt.tls else { return Ok(()) };
        if !attempt.direct {
            self.request_tls(attempt)?;
        }
        let connector = encryption.connector().map_err(ServerError::lost)?;
        self.transport.start_tls(connector, &attempt.name, attempt.deadline).map_err(|error| {
            self.close();
            ServerError::lost(format!("error performing TLS handshake: {error}"))
        })
    }

    fn request_tls(&mut self, attempt: &Attempt) -> Result<(), ServerError> {
        self.send(|out| {
            frontend::ssl_request(out);
            Ok(())
        })?;
        while self.inbox.is_empty() {
            let wait = remaining(attempt.deadline).map_err(|e| self.broken(&e))?;
            self.transport.read_into(&mut self.inbox, wait).map_err(|e| self.broken(&e))?;
        }
        match self.inbox.get_u8() {
            // Bytes behind the answer came from somebody without a certificate.
            b'S' if self.inbox.is_empty() => Ok(()),
            b'S' => {
                self.close();
                Err(ServerError::lost("the server sent data before the TLS handshake"))
            }
            b'N' => {
                self.close();
                Err(ServerError::lost("the server does not support TLS"))
            }
            other => {
                self.close();
                let what = format!("the server answered '{}' to the request for TLS", other as char);
                Err(ServerError::lost(what))
            }
        }
    }

    /// Startup message, authentication, and the server's parameters.
    pub(super) fn start_up(
        &mut self,
        conninfo: &Conninfo,
        attempt: &Attempt,
        application_name: &str,
        purpose: Purpose,
    ) -> Result<(), ServerError> {
        let mut parameters = vec![
            ("user", conninfo.user()),
            ("database", conninfo.dbname()),
            ("client_encoding", "UTF8"),
            ("application_name", application_name),
        ];
        if let Some(options) = conninfo.options() {
            parameters.push(("options", options));
        }
        if purpose == Purpose::Replication {
            parameters.push(("replication", "database"));
        }
        self.send(|out| frontend::startup_message(parameters, out))?;
        self.authenticate(conninfo, attempt)?;
        loop {
            let frame = self.receive_by(attempt)?;
            match frame.tag {
                b'Z' => return Ok(()),
                b'E' => return Err(self.refused(&frame)),
                // BackendKeyData serves to cancel, which we never do; NegotiateProtocolVersion takes nothing from us.
                b'K' | b'v' => {}
                tag => return Err(self.unexpected(tag, "startup")),
            }
        }
    }

    fn authenticate(&mut self, conninfo: &Conninfo, attempt: &Attempt) -> Result<(), ServerError> {
        let mut bound = false;
        loop {
            let frame = self.receive_by(attempt)?;
            match frame.tag {
                b'R' => {}
                b'E' => return Err(self.refused(&frame)),
                b'v' => continue,
                tag => return Err(self.unexpected(tag, "authentication")),
            }
            let mut body = &frame.body[..];
            let kind = self.check(body.try_get_u32().map_err(|_| "an authentication request is empty"))?;
            match kind {
                0 if conninfo.channel_binding() == Binding::Require && !bound => {
                    return Err(
                        self.give_up("the server let us in without channel binding, which is required")
                    );
                }
                0 => return Ok(()),
                3 => {
                    self.may_reveal("a cleartext password", conninfo, attempt)?;
                    let password = self.password(attempt)?;
                    self.send(|out| frontend::password_message(&password, out))?;
                }
                5 => {
                    self.may_reveal("an MD5 password", conninfo, attempt)?;
                    let salt = self.check(body.try_into().map_err(|_| "the salt is not four bytes long"))?;
                    let password = self.password(attempt)?;
                    let hash = md5_hash(conninfo.user().as_bytes(), &password, salt);
                    self.send(|out| frontend::password_message(hash.as_bytes(), out))?;
                }
                10 => bound = self.scram(body, conninfo, attempt)?,
                7..=9 => return Err(self.give_up("the server wants GSSAPI or SSPI, which is not supported")),
                other => {
                    return Err(
                        self.give_up(&format!("the server wants unknown authentication method {other}"))
                    );
                }
            }
        }
    }

    /// SCRAM-SHA-256, bound to the TLS channel where both ends can; whether it was bound.
    fn scram(
        &mut self,
        mechanisms: &[u8],
        conninfo: &Conninfo,
        attempt: &Attempt,
    ) -> Result<bool, ServerError> {
        let offers =
            |name: &str| mechanisms.split(|byte| *byte == 0).any(|offered| offered == name.as_bytes());
        let wanted = conninfo.channel_binding();
        let end_point = self.transport.tls_server_end_point().filter(|_| wanted != Binding::Disable);
        let (mechanism, binding) = match end_point {
            Some(hash) if offers(SCRAM_SHA_256_PLUS) => {
                (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(hash))
            }
            _ if wanted == Binding::Require => {
                return Err(self.give_up("channel binding is required, but this connection cannot be bound"));
            }
            _ if !offers(SCRAM_SHA_256) => {
                return Err(self.give_up("the server offers none of the SASL mechanisms that are supported"));
            }
            Some(_) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
            None => (SCRAM_SHA_256, ChannelBinding::unsupported()),
        };
        let password = self.password(attempt)?;
        let mut scram = ScramSha256::new(&password, binding);
        self.send(|out| frontend::sasl_initial_response(mechanism, scram.message(), out))?;
        let challenge = self.sasl_message(11, attempt)?;
        self.sasl_step(scram.update(&challenge))?;
        self.send(|out| frontend::sasl_response(scram.message(), out))?;
        let proof = self.sasl_message(12, attempt)?;
        self.sasl_step(scram.finish(&proof))?;
        Ok(mechanism == SCRAM_SHA_256_PLUS)
    }

    fn sasl_message(&mut self, expected: u32, attempt: &Attempt) -> Result<BytesMut, ServerError> {
        let frame = self.receive_by(attempt)?;
        if frame.tag == b'E' {
            return Err(self.refused(&frame));
        }
        let mut body = &frame.body[..];
        match (frame.tag, body.try_get_u32()) {
            (b'R', Ok(kind)) if kind == expected => Ok(BytesMut::from(body)),
            (tag, _) => Err(self.unexpected(tag, "SCRAM authentication")),
        }
    }

    fn sasl_step(&mut self, result: std::io::Result<()>) -> Result<(), ServerError> {
        result.map_err(|error| self.give_up(&format!("SCRAM authentication failed: {error}")))
    }

    fn password(&mut self, attempt: &Attempt) -> Result<Vec<u8>, ServerError> {
        match &attempt.password {
            Some(password) => Ok(password.clone().into_bytes()),
            None => Err(self.give_up("the server wants a password, and none is given")),
        }
    }

    /// Refuses to send what an eavesdropper can use.
    fn may_reveal(&mut self, what: &str, conninfo: &Conninfo, attempt: &Attempt) -> Result<(), ServerError> {
        if !attempt.can_be_overheard() || conninfo.tls_is_waived() {
            return Ok(());
        }
        let mut error = self.give_up(&format!("the server asks for {what} over a connection without TLS"));
        error.hint = Some(
            "Turn on ssl or scram-sha-256 on the server, or set sslmode=disable to send it all the same."
                .into(),
        );
        Err(error)
    }

    fn receive_by(&mut self, attempt: &Attempt) -> Result<Frame, ServerError> {
        let wait = remaining(attempt.deadline).map_err(|e| self.broken(&e))?;
        match self.receive_within(wait)? {
            Some(frame) => Ok(frame),
            None => Err(self.broken(&std::io::ErrorKind::TimedOut.into())),
        }
    }

    /// What the server said when it did not let us in.
    fn refused(&mut self, frame: &Frame) -> ServerError {
        let mut error = self.error_in(&frame.body);
        error.connection_lost = true;
        self.close();
        error
    }

    fn give_up(&mut self, why: &str) -> ServerError {
        self.close();
        ServerError::lost(why)
    }
}
