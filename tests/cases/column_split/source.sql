alter table column_split.people add first_name text, add last_name text;
update column_split.people
set first_name = split_part(full_name, ' ', 1), last_name = nullif(split_part(full_name, ' ', 2), '');
alter table column_split.people drop full_name, alter first_name set not null;
