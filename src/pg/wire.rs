//! Our own small client for what the `postgres` crate lacks: bulk COPY pass-through and replication.
