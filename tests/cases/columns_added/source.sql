alter table columns_added.orders
    add origin text, add gross numeric(10, 2), add state text not null default 'new', add remark text,
    add words int generated always as (length(note)) stored;
update columns_added.orders set origin = 'shop', gross = net * 1.19;
alter table columns_added.orders alter origin set not null, alter gross set not null;
