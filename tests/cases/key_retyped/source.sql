alter table key_retyped.articles alter id type text using 'A-' || lpad(id::text, 6, '0');
