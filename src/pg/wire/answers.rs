//! Several questions at once, each a statement of its own, and what each of them came to.

use bytes::Buf as _;
use postgres_protocol::message::frontend;

use super::{Client, text_row};
use crate::error::ServerError;

/// Rows with the names of their columns.
#[derive(Debug, Default)]
pub struct Answer {
    /// Names of the columns of the last statement that gave rows.
    pub columns: Vec<String>,
    /// The values of all statements as text, in their order.
    pub rows: Vec<Vec<Option<String>>>,
}

impl Client {
    /// Sends all of them before the first answer is waited for: one round trip. One that fails keeps none from the others.
    pub fn ask_each(
        &mut self,
        questions: &[String],
    ) -> Result<Vec<Result<Answer, ServerError>>, ServerError> {
        self.send(|out| questions.iter().try_for_each(|question| frontend::query(question, out)))?;
        questions.iter().map(|_| self.receive_answer()).collect()
    }

    /// Up to the next `ReadyForQuery`; the outer error is one of the connection.
    pub(super) fn receive_answer(&mut self) -> Result<Result<Answer, ServerError>, ServerError> {
        let mut answer = Answer::default();
        let mut failure = None;
        loop {
            let frame = self.receive()?;
            match frame.tag {
                b'T' => answer.columns = self.check(column_names(&frame.body))?,
                b'D' => answer.rows.push(self.check(text_row(&frame.body))?),
                b'E' => failure = failure.or(Some(self.error_in(&frame.body))),
                b'Z' => return Ok(failure.map_or(Ok(answer), Err)),
                // COPY is started by other functions: one that was started here is refused.
                b'G' => self.send(|out| frontend::copy_fail("no data is given here", out))?,
                _ => {}
            }
            if self.lost {
                return Err(failure.unwrap_or_else(|| ServerError::lost("the connection is lost")));
            }
        }
    }
}

/// The names in a `RowDescription`.
fn column_names(mut body: &[u8]) -> Result<Vec<String>, &'static str> {
    const SHORT: &str = "a description of rows is shorter than it says";
    /// Table, number and type of the column, and the form of its values.
    const REST: usize = 18;
    let count = body.try_get_u16().map_err(|_| SHORT)?;
    (0..count)
        .map(|_| {
            let end = body.iter().position(|byte| *byte == 0).ok_or(SHORT)?;
            let name = String::from_utf8_lossy(&body[..end]).into_owned();
            body = body.get(end + 1 + REST..).ok_or(SHORT)?;
            Ok(name)
        })
        .collect()
}
