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
    /// What it does, verb first, for the message when it fails and nobody said better what it is about.
    pub fn action(&self) -> String {
        let name = self
            .name
            .strip_prefix("has_")
            .map_or_else(|| self.name.to_owned(), |what| format!("look_for_{what}"));
        name.replace('_', " ")
    }

    /// The statement that a file holds as this text.
    pub fn of_text(text: &str) -> Option<&'static Sql> {
        ALL.iter().map(|(_, sql)| sql).find(|sql| sql.text == text)
    }

    /// The statement with its psql variables filled in. Every variable in the file must be given.
    pub fn with(&self, variables: &[(&str, &str)]) -> String {
        let forms: Vec<(String, String)> = variables
            .iter()
            .flat_map(|(name, value)| {
                [
                    (format!(":\"{name}\""), quote_identifier(value)),
                    (format!(":'{name}'"), quote_literal(value)),
                    (format!(":{name}"), (*value).to_owned()),
                ]
            })
            .collect();
        // A name with a line feed in it would end the comment on top, which speaks of the variables, too.
        let mut rest = self.text;
        while rest.starts_with("--") {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
        }
        // In one pass, so that a value that looks like a variable stays as it is.
        let mut filled = String::new();
        while let Some(at) = rest.find(':') {
            filled.push_str(&rest[..at]);
            rest = &rest[at..];
            let form = forms.iter().find(|(variable, _)| rest.starts_with(variable.as_str()));
            let (variable, value) = form.map_or((":", ":"), |(variable, value)| (variable, value));
            filled.push_str(value);
            rest = &rest[variable.len()..];
        }
        filled.push_str(rest);
        filled
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

/// `array['a', 'b']::text[]`.
pub fn quote_array(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quote_literal(text)).collect();
    format!("array[{}]::text[]", quoted.join(", "))
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
        /// All of them, as `folder/file`.
        pub const ALL: &[(&str, Sql)] = &[
            $($((concat!(stringify!($folder), "/", $file), $folder::$name)),*),*
        ];
    };
}

statements! {
    capture {
        COUNT_LATER_CHANGES = "count_later_changes",
        CREATE_CHANGE = "create_change",
        CREATE_EVENT_TRIGGER = "create_event_trigger",
        CREATE_MARKER_TRIGGER = "create_marker_trigger",
        CREATE_TRIGGERS = "create_triggers",
        CREATE_TRUNCATE_TRIGGER = "create_truncate_trigger",
        CREATE_WHOLE_ROW_TRIGGERS = "create_whole_row_triggers",
        DESCRIBE_TABLE = "describe_table",
        DROP_CHANGE = "drop_change",
        FIND_PRESENT_NAME = "find_present_name",
        FIND_RECORDED_NAME = "find_recorded_name",
        GRANT_RECORDING = "grant_recording",
        HAS_CHANGE_TABLE = "has_change_table",
        HAS_RECORDED_TABLE = "has_recorded_table",
        LIST_ALTERED = "list_altered",
        LIST_CAPTURED = "list_captured",
        LIST_DESCRIPTIONS = "list_descriptions",
        LIST_MOVED_PARTITIONS = "list_moved_partitions",
        LIST_NESTING = "list_nesting",
        LIST_UNCAPTURED = "list_uncaptured",
        LIST_UNCOVERED = "list_uncovered",
        LIST_UNRECORDED = "list_unrecorded",
        NOTE_PASSED_OVER = "note_passed_over",
        NOTE_RECORDED = "note_recorded",
        ORDER_CHANGES = "order_changes",
        PURGE_CHANGES = "purge_changes",
        PURGE_ORDER = "purge_order",
        READ_BACKLOG = "read_backlog",
        READ_CHANGES = "read_changes",
        READ_POSITION = "read_position",
    }
    catalog {
        FIND_ADVISORY_LOCK = "find_advisory_lock",
        FIND_COLLATION_VERSION = "find_collation_version",
        FIND_DROPPABLE = "find_droppable",
        FIND_EXTENSION_SCHEMA = "find_extension_schema",
        FIND_STANDING_SETTING = "find_standing_setting",
        FINGERPRINT_TABLES = "fingerprint_tables",
        LIST_ABILITIES = "list_abilities",
        LIST_DATABASE_SETTINGS = "list_database_settings",
        LIST_DEFAULT_CHANGES = "list_default_changes",
        LIST_DEFAULT_GRANTEES = "list_default_grantees",
        LIST_DEPENDENTS = "list_dependents",
        LIST_FILLED_COLUMNS = "list_filled_columns",
        LIST_DEFINITIONS = "list_definitions",
        LIST_FILTER_COLUMNS = "list_filter_columns",
        LIST_OBJECTS = "list_objects",
        LIST_CONTAINERS = "list_containers",
        LIST_CONSTRAINT_INDEXES = "list_constraint_indexes",
        LIST_DEPENDENT_VIEWS = "list_dependent_views",
        LIST_EXTENSIONS = "list_extensions",
        LIST_CLOSED_SCHEMAS = "list_closed_schemas",
        LIST_LACKING_RIGHTS = "list_lacking_rights",
        LIST_LOCK_HOLDERS = "list_lock_holders",
        LIST_FOREIGN_PARTITIONS = "list_foreign_partitions",
        LIST_GRANTS = "list_grants",
        LIST_INDEXES = "list_indexes",
        LIST_KEYS_INTO = "list_keys_into",
        LIST_LOGIN_MEMBERS = "list_login_members",
        LIST_MATERIALIZED_VIEWS = "list_materialized_views",
        LIST_NEWER_FEATURES = "list_newer_features",
        LIST_NOT_OWNED = "list_not_owned",
        LIST_UNINHERITED_ROLES = "list_uninherited_roles",
        LIST_UNOWNED_SCHEMAS = "list_unowned_schemas",
        LIST_FILE_SETTINGS = "list_file_settings",
        LIST_OBJECT_OWNERS = "list_object_owners",
        LIST_ORIGINS = "list_origins",
        LIST_PASSWORDS = "list_passwords",
        LIST_PLAIN_SCHEMAS = "list_plain_schemas",
        LIST_PORTABLE_TYPES = "list_portable_types",
        LIST_ROLES = "list_roles",
        LIST_ROLE_RIGHTS = "list_role_rights",
        LIST_ROLE_SETTINGS = "list_role_settings",
        LIST_SORTING_COLLATIONS = "list_sorting_collations",
        LIST_SUPERUSERS_SETTINGS = "list_superusers_settings",
        LIST_WRAPPERS = "list_wrappers",
        LIST_WRITABLE_TABLES = "list_writable_tables",
        LIST_STANDING_VALUES = "list_standing_values",
        LIST_STANDING_PRIVILEGES = "list_standing_privileges",
        LIST_STALE_TABLES = "list_stale_tables",
        LIST_STATEMENT_LOGGING = "list_statement_logging",
        LIST_WARMABLE = "list_warmable",
        LIST_SEQUENCES = "list_sequences",
        LIST_TABLES = "list_tables",
        LIST_TABLE_OWNERS = "list_table_owners",
        LIST_UNSTEADY_HASHES = "list_unsteady_hashes",
        LIST_USER_OBJECTS = "list_user_objects",
        PIN_SESSION = "pin_session",
        READ_CONVENTIONS = "read_conventions",
        READ_DATABASE = "read_database",
        READ_DATABASE_OWNER = "read_database_owner",
        READ_EMPTINESS = "read_emptiness",
        READ_OWN_ROLE = "read_own_role",
        READ_SERVER = "read_server",
    }
    fence {
        COUNT_STARTING = "count_starting",
        DESCRIBE_ROLES = "describe_roles",
        END_FENCED_SESSIONS = "end_fenced_sessions",
        END_SESSIONS = "end_sessions",
        LIST_ADMITTED_ROLES = "list_admitted_roles",
        LIST_APPLY_BLOCKERS = "list_apply_blockers",
        LIST_BEREFT_ROLES = "list_bereft_roles",
        LIST_CONNECT_GRANTS = "list_connect_grants",
        LIST_PORTS = "list_ports",
        LIST_PRESENT_ROLES = "list_present_roles",
        LIST_READ_ONLY_SETTINGS = "list_read_only_settings",
        LIST_SESSIONS = "list_sessions",
        LIST_SESSION_STATE = "list_session_state",
        LIST_WRITERS = "list_writers",
        LIST_WRITING_ROLES = "list_writing_roles",
        NOTE_TIME = "note_time",
    }
    flow {
        ADVANCE_SLOT = "advance_slot",
        ASK_FOR_TEMPORARY_TABLES = "ask_for_temporary_tables",
        ASSIGN_XID = "assign_xid",
        COPY_SLOT = "copy_slot",
        COUNT_LATE_CHANGES = "count_late_changes",
        COUNT_SUBSCRIPTION_WORKERS = "count_subscription_workers",
        CREATE_SLOT = "create_slot",
        DELETE_ALL_UNMADE = "delete_all_unmade",
        DELETE_QUARANTINED = "delete_quarantined",
        DELETE_QUARANTINED_OF_TABLE = "delete_quarantined_of_table",
        DELETE_UNMADE = "delete_unmade",
        DROP_SLOT = "drop_slot",
        FIND_DISK = "find_disk",
        END_SUBSCRIPTION_WORKERS = "end_subscription_workers",
        END_WAITS_OF_APPLIERS = "end_waits_of_appliers",
        FIND_UNMADE = "find_unmade",
        FIND_ORIGIN = "find_origin",
        FIND_FOREIGN_SLOT = "find_foreign_slot",
        FIND_SLOT = "find_slot",
        FIND_SUBSCRIPTION = "find_subscription",
        FINISH_POST_DATA = "finish_post_data",
        FINISH_SMALL_TABLE = "finish_small_table",
        FINISH_TABLE_ANALYSIS = "finish_table_analysis",
        FINISH_TABLE_COPY = "finish_table_copy",
        HAS_CASCADING_KEYS = "has_cascading_keys",
        HAS_MARKER = "has_marker",
        HAS_TYPE = "has_type",
        HASH_BUCKETS = "hash_buckets",
        HASH_KEYED_ROWS = "hash_keyed_rows",
        INSERT_POST_DATA = "insert_post_data",
        INSERT_QUARANTINED = "insert_quarantined",
        INSERT_TABLE_COPIES = "insert_table_copies",
        INSERT_UNMADE = "insert_unmade",
        LIST_COLUMNS_READ = "list_columns_read",
        LIST_MADE = "list_made",
        LIST_TABLE_DEFINITIONS = "list_table_definitions",
        LIST_DEFERRABLE_KEYS = "list_deferrable_keys",
        LIST_FOREIGN_KEYS = "list_foreign_keys",
        LIST_HELD_KEYS = "list_held_keys",
        LIST_INDEX_COLUMNS = "list_index_columns",
        LIST_KEYS_UP_TO = "list_keys_up_to",
        LIST_KNOWN_TYPES = "list_known_types",
        LIST_PARTITION_ANCESTORS = "list_partition_ancestors",
        LIST_PARTITION_CONSTRAINTS = "list_partition_constraints",
        LIST_POST_DATA = "list_post_data",
        LIST_REFERENCED_TABLES = "list_referenced_tables",
        LIST_PUBLICATION_TABLES = "list_publication_tables",
        LIST_QUARANTINED = "list_quarantined",
        LIST_SEQUENCE_DEFAULTS = "list_sequence_defaults",
        LIST_SUBSCRIBED = "list_subscribed",
        LIST_TABLE_COPIES = "list_table_copies",
        LIST_UNIQUE_DEFINITIONS = "list_unique_definitions",
        LIST_USER_RULES = "list_user_rules",
        LIST_USER_TRIGGERS = "list_user_triggers",
        LIST_WRITE_FACTS = "list_write_facts",
        LIST_WRITING_TRANSACTIONS = "list_writing_transactions",
        LOCK_APPLIER = "lock_applier",
        LOCK_SECOND_APPLIER = "lock_second_applier",
        NOTE_ORIGINS = "note_origins",
        NOTE_MADE = "note_made",
        READ_APPLIED_ORIGIN = "read_applied_origin",
        READ_BACKLOG = "read_backlog",
        READ_CLOCK = "read_clock",
        READ_COPY_MEMORY = "read_copy_memory",
        READ_LOAD = "read_load",
        READ_MOVED_SEQUENCES = "read_moved_sequences",
        READ_NEXT_XID = "read_next_xid",
        READ_OLDEST_XID = "read_oldest_xid",
        READ_PROGRESS = "read_progress",
        READ_PUBLICATION = "read_publication",
        READ_SEQUENCES = "read_sequences",
        READ_SLOT_PROGRESS = "read_slot_progress",
        READ_SLOT_USE = "read_slot_use",
        READ_WAL_RATE = "read_wal_rate",
        READ_WAL_POSITION = "read_wal_position",
        RECORD_PROGRESS = "record_progress",
        RELEASE_SLOT = "release_slot",
        REMOVE_MARKER = "remove_marker",
        REPEAT_TABLE_COPIES = "repeat_table_copies",
        SET_SEQUENCES = "set_sequences",
        START_TABLE_COPY = "start_table_copy",
        STORE_MARKER = "store_marker",
        UPDATE_FINGERPRINTS = "update_fingerprints",
        UPDATE_QUARANTINED = "update_quarantined",
        WIDEN_DECODING = "widen_decoding",
        WRITE_MARKER = "write_marker",
    }
    record {
        BAR_DECISION = "bar_decision",
        COUNT_QUARANTINED = "count_quarantined",
        CREATE_COMMON = "create_common",
        CREATE_SCHEMA = "create_schema",
        CREATE_SOURCE = "create_source",
        CREATE_COPIES = "create_copies",
        CREATE_TARGET = "create_target",
        DELETE_PROGRESS = "delete_progress",
        DECIDE = "decide",
        DELETE_STEPS = "delete_steps",
        DELETE_UNDO = "delete_undo",
        DROP_RECORD = "drop_record",
        FIND_FOREIGN = "find_foreign",
        FIND_HELD_LOCK = "find_held_lock",
        FIND_LOCK_HOLDER = "find_lock_holder",
        FORGET_RELEASED = "forget_released",
        FORGET_WAITING = "forget_waiting",
        HAS_TABLE = "has_table",
        INSERT_DETOUR = "insert_detour",
        INSERT_EVENT = "insert_event",
        INSERT_STAMP = "insert_stamp",
        INSERT_STEP = "insert_step",
        INSERT_UNDO = "insert_undo",
        INSERT_VERIFIED = "insert_verified",
        LIST_EVENTS = "list_events",
        LIST_OUR_OBJECTS = "list_our_objects",
        LIST_STEPS = "list_steps",
        LIST_UNDO = "list_undo",
        LIST_VERIFIED = "list_verified",
        MAKE_ID = "make_id",
        MERGE_FACTS = "merge_facts",
        NOTE_PARTIAL = "note_partial",
        NOTE_RELEASED = "note_released",
        NOTE_TOLD = "note_told",
        READ_DETOUR = "read_detour",
        READ_FLOW_PROGRESS = "read_flow_progress",
        READ_IDENTITY = "read_identity",
        READ_SETTLED = "read_settled",
        READ_STAMP = "read_stamp",
        REVOKE_DECISION = "revoke_decision",
        SETTLE_ON_SOURCE = "settle_on_source",
        SETTLE_PHASE = "settle_phase",
        TRY_LOCK = "try_lock",
        UPDATE_PHASE = "update_phase",
        UPDATE_STAMP = "update_stamp",
        WITHHOLD_PRIVILEGES = "withhold_privileges",
        WRITE_PROGRESS = "write_progress",
    }
    restrict {
        CREATE_GUARD = "create_guard",
        CREATE_OBSERVATION = "create_observation",
        CREATE_REFUSAL = "create_refusal",
        CREATE_VIEW = "create_view",
        DROP_ALL = "drop_all",
        DROP_GUARD = "drop_guard",
        DROP_OBSERVATION = "drop_observation",
        FIND_LIMITED_ROLE = "find_limited_role",
        HAS_OBJECTS = "has_objects",
        HAS_OBSERVATION = "has_observation",
        INSERT_RULE = "insert_rule",
        INSPECT_SCHEMA = "inspect_schema",
        LIST_BARRED_ROLES = "list_barred_roles",
        LIST_BLOCKERS = "list_blockers",
        LIST_GUARD_SWITCHES = "list_guard_switches",
        LIST_MARKED_ROLES = "list_marked_roles",
        LIST_MEMBERS = "list_members",
        LIST_OBSERVED = "list_observed",
        LIST_POWERS = "list_powers",
        LIST_ROLE_CHANGES = "list_role_changes",
        LIST_ROLE_HOLDS = "list_role_holds",
        LIST_TRIGGERS = "list_triggers",
        LIST_WITHHELD_ROLES = "list_withheld_roles",
        NOTIFY_RESTRICTED = "notify_restricted",
        READ_GUARD = "read_guard",
        READ_LIMITED_ROLE = "read_limited_role",
        READ_STORED_PASSWORD = "read_stored_password",
        SUM_OBSERVATIONS = "sum_observations",
    }
}
