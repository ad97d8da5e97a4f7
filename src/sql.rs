//! Every SQL statement, one file each under `sql/`; a file's stem is the constant's name.

/// A statement kept in its own file, runnable in psql as it stands: `$1` are parameters,
/// `:"name"` an identifier, `:'name'` a literal and `:name` text that is quoted already (psql's own variables).
#[derive(Debug, Clone, Copy)]
pub struct Sql {
    /// File stem, for messages.
    pub name: &'static str,
    /// The statement.
    pub text: &'static str,
}

impl Sql {
    /// The statement with its psql variables filled in. Every variable in the file must be given.
    pub fn with(&self, variables: &[(&str, &str)]) -> String {
        let mut text = self.text.to_owned();
        for (name, value) in variables {
            text = text
                .replace(&format!(":\"{name}\""), &quote_identifier(value))
                .replace(&format!(":'{name}'"), &quote_literal(value))
                .replace(&format!(":{name}"), value);
        }
        text
    }
}

/// `name` as an SQL identifier, always in double quotes.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `"schema"."name"`.
pub fn quote_qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_identifier(schema), quote_identifier(name))
}

/// `text` as an SQL string literal, safe whatever `standard_conforming_strings` says.
pub fn quote_literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!(" E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

macro_rules! statements {
    ($($folder:ident { $($name:ident = $file:literal),* $(,)? })*) => {
        $(
            #[doc = concat!("Statements of `sql/", stringify!($folder), "/`.")]
            #[allow(missing_docs)]
            pub mod $folder {
                use super::Sql;
                $(pub const $name: Sql = Sql {
                    name: $file,
                    text: include_str!(concat!("../sql/", stringify!($folder), "/", $file, ".sql")),
                };)*
            }
        )*
        /// All of them, as `folder/file`, for the tests that prepare each on a server.
        #[cfg(test)]
        pub const ALL: &[(&str, Sql)] = &[
            $($((concat!(stringify!($folder), "/", $file), $folder::$name)),*),*
        ];
    };
}

statements! {
    catalog {
        LIST_TABLES = "list_tables",
        PIN_SESSION = "pin_session",
    }
    flow {
        ADVANCE_SLOT = "advance_slot",
        ASSIGN_XID = "assign_xid",
        CREATE_SLOT = "create_slot",
        DROP_SLOT = "drop_slot",
        FIND_SLOT = "find_slot",
        HAS_CASCADING_DELETES = "has_cascading_deletes",
        HAS_MARKER = "has_marker",
        LIST_COLUMNS_READ = "list_columns_read",
        LIST_KNOWN_TYPES = "list_known_types",
        LIST_PUBLICATION_TABLES = "list_publication_tables",
        LIST_WRITE_FACTS = "list_write_facts",
        LIST_WRITING_TRANSACTIONS = "list_writing_transactions",
        READ_OLDEST_XID = "read_oldest_xid",
        READ_PROGRESS = "read_progress",
        READ_PUBLICATION = "read_publication",
        READ_WAL_POSITION = "read_wal_position",
        RECORD_PROGRESS = "record_progress",
        STORE_MARKER = "store_marker",
        WRITE_MARKER = "write_marker",
    }
    record {
        CREATE_COMMON = "create_common",
        CREATE_SOURCE = "create_source",
        CREATE_TARGET = "create_target",
        DELETE_STEPS = "delete_steps",
        DELETE_UNDO = "delete_undo",
        DROP_RECORD = "drop_record",
        HAS_TABLE = "has_table",
        INSERT_DETOUR = "insert_detour",
        INSERT_EVENT = "insert_event",
        INSERT_STAMP = "insert_stamp",
        INSERT_STEP = "insert_step",
        INSERT_UNDO = "insert_undo",
        LIST_EVENTS = "list_events",
        LIST_STEPS = "list_steps",
        LIST_UNDO = "list_undo",
        LOCK_HELD = "lock_held",
        LOCK_HOLDER = "lock_holder",
        MERGE_FACTS = "merge_facts",
        NEW_ID = "new_id",
        READ_DETOUR = "read_detour",
        READ_STAMP = "read_stamp",
        TRY_LOCK = "try_lock",
        UPDATE_PHASE = "update_phase",
        UPDATE_STAMP = "update_stamp",
        WRITE_PROGRESS = "write_progress",
    }
}
