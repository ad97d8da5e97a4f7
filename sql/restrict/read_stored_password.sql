-- What the server keeps of a role's password; null when it has none.
-- $1 text: role.
select a.rolpassword as stored_password from pg_catalog.pg_authid as a where a.rolname = $1
