//! Rows into a table by INSERT with binary parameters: for servers and poolers where COPY is not possible.
//!
//! One statement holds many rows. It is the unnamed one, prepared again when the number of rows changes, so that nothing stays at
//! the server.

use crate::connection::{Connection, no_nul};
use crate::error::Error;
use rapidbyte_sdk::ConnectorError;

/// Parameters of one statement. The protocol has room for twice as many, and not every pooler reads the number without its sign.
const MAX_PARAMETERS: usize = 32_767;
/// Rows of one statement. Guessed: beyond this the server's time per row no longer falls.
const MAX_ROWS: usize = 512;
/// Bytes of parameters from which on a statement is sent.
const FULL: usize = 512 << 10;

/// Rows on their way to the server. What was not sent when it is dropped is not inserted.
pub struct InsertIn<'a> {
    connection: &'a mut Connection,
    /// What stands before the rows.
    head: String,
    columns: usize,
    /// Rows of a full statement, a power of two.
    most: usize,
    /// Rows of the statement that the server has prepared.
    prepared: usize,
    fields: Vec<u8>,
    /// Where the fields of each row end.
    ends: Vec<usize>,
    inserted: u64,
}

impl<'a> InsertIn<'a> {
    pub(crate) fn start(connection: &'a mut Connection, into: &str, columns: usize) -> Result<Self, Error> {
        let most = MAX_ROWS.min(MAX_PARAMETERS.checked_div(columns).unwrap_or(0));
        if most == 0 {
            return Err(ConnectorError::internal("parameter_count", format!("a row of {columns} columns can't be inserted")).into());
        }
        let most = 1 << most.ilog2();
        let head = format!("INSERT INTO {}", no_nul(into)?);
        Ok(Self { connection, head, columns, most, prepared: 0, fields: Vec::new(), ends: Vec::new(), inserted: 0 })
    }

    /// Where the fields of the next row go, each with its length before it, -1 for NULL: the form of COPY BINARY. Nothing
    /// else in it may be touched. [`Self::row`] says that they are there.
    pub fn fields(&mut self) -> &mut Vec<u8> {
        &mut self.fields
    }

    /// The fields of a row are complete. Says whether it is time to [`Self::send`].
    pub fn row(&mut self) -> bool {
        self.ends.push(self.fields.len());
        self.ends.len() >= self.most || self.fields.len() >= FULL
    }

    /// Sends the rest; gives the rows that the server took.
    pub fn finish(mut self) -> Result<u64, Error> {
        while !self.ends.is_empty() {
            self.send()?;
        }
        Ok(self.inserted)
    }

    /// Sends as many rows as make a power of two, so that few statements have to be prepared.
    pub fn send(&mut self) -> Result<(), Error> {
        let Some(most) = self.ends.len().min(self.most).checked_ilog2() else { return Ok(()) };
        let rows = 1 << most;
        let end = self.ends[rows - 1];
        if self.prepared != rows {
            self.connection.prepare_unnamed(&statement(&self.head, self.columns, rows))?;
            self.prepared = rows;
        }
        self.inserted += self.connection.execute_unnamed(rows * self.columns, &self.fields[..end])?;
        self.fields.drain(..end);
        // A row of many megabytes must not pin its buffer.
        self.fields.shrink_to(4 * FULL);
        self.ends.drain(..rows);
        self.ends.iter_mut().for_each(|place| *place -= end);
        Ok(())
    }
}

/// The server gives each parameter the type of the column that it goes into.
fn statement(head: &str, columns: usize, rows: usize) -> String {
    let mut sql = format!("{head} VALUES ");
    for row in 0..rows {
        sql.push_str(if row == 0 { "(" } else { ",(" });
        for column in 0..columns {
            sql.push_str(if column == 0 { "$" } else { ",$" });
            sql.push_str(&(row * columns + column + 1).to_string());
        }
        sql.push(')');
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_has_a_parameter_for_each_field() {
        assert_eq!(statement("INSERT INTO t (a, b)", 2, 2), "INSERT INTO t (a, b) VALUES ($1,$2),($3,$4)");
    }
}
