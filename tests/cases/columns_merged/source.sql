alter table columns_merged.people add full_name text, add digest text;
update columns_merged.people set full_name = first_name || ' ' || last_name, digest = md5(last_name || bio);
alter table columns_merged.people drop first_name, drop last_name, drop bio;
