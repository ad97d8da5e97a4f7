-- All that a database may hold. Run as dba on the source; every row of every table has to arrive as it is.

create schema "Odd ""Schema"" ü";
create schema ext;
create schema twin;
create extension citext schema ext;
create extension hstore schema "Odd ""Schema"" ü";
create extension ltree schema ext;
create extension btree_gist schema ext;
create extension postgres_fdw schema ext;
create extension cube schema twin;
create extension isn schema "Odd ""Schema"" ü";
grant usage on schema twin, ext, "Odd ""Schema"" ü" to shop_app;

-- Types.

create type public.mood as enum ('sad', 'so, so', 'glad "quoted"', 'ö');
create type "Odd ""Schema"" ü"."Mood" as enum ('a', 'B');
create domain public.short_text as text check (length(value) <= 40);
create domain public.positive as numeric check (value > 0 or value = 'NaN');
create type public.address as (street text, "Zip Code" char(7), location point, moods public.mood[]);
create type public.span as range (subtype = numeric, multirange_type_name = public.multispan);
create domain public.home as public.address;
create type public.shrunk as (a int, gone text, b public.address, c public.span[]);
alter type public.shrunk drop attribute gone, add attribute late text;
create type public.mood_span as range (subtype = public.mood);
create domain public.short_texts as public.short_text[] check (array_length(value, 1) < 5);
create type public.plain_text;
create function public.plain_text_in(cstring) returns public.plain_text language internal immutable strict as 'textin';
create function public.plain_text_out(public.plain_text) returns cstring language internal immutable strict as 'textout';
create type public.plain_text (input = public.plain_text_in, output = public.plain_text_out, like = text);
create collation public.by_code (locale = 'C');

create table public.every_type (
    id int primary key,
    t_bool bool,
    t_int2 int2,
    t_int4 int4,
    t_int8 int8,
    t_float4 float4,
    t_float8 float8,
    t_numeric numeric,
    t_numeric_scaled numeric(40, 10),
    t_money money,
    t_text text,
    t_text_c text collate public.by_code,
    t_varchar varchar(20),
    t_char char(10),
    t_byte "char",
    t_name name,
    t_bytea bytea,
    t_bit bit(5),
    t_varbit varbit,
    t_date date,
    t_time time,
    t_timetz timetz,
    t_timestamp timestamp,
    t_timestamptz timestamptz,
    t_interval interval,
    t_uuid uuid,
    t_inet inet,
    t_cidr cidr,
    t_macaddr macaddr,
    t_macaddr8 macaddr8,
    t_json json,
    t_jsonb jsonb,
    t_jsonpath jsonpath,
    t_xml xml,
    t_tsvector tsvector,
    t_tsquery tsquery,
    t_point point,
    t_line line,
    t_lseg lseg,
    t_box box,
    t_path path,
    t_polygon polygon,
    t_circle circle,
    t_oid oid,
    t_regclass regclass,
    t_regtype regtype,
    t_regproc regprocedure,
    t_regrole regrole,
    t_lsn pg_lsn,
    t_snapshot pg_snapshot,
    t_tid tid,
    t_int4range int4range,
    t_numrange numrange,
    t_tsrange tsrange,
    t_tstzrange tstzrange,
    t_daterange daterange,
    t_multirange int4multirange,
    t_tsmultirange tsmultirange,
    t_span public.span,
    t_mood public.mood,
    t_odd_mood "Odd ""Schema"" ü"."Mood",
    t_domain public.short_text,
    t_positive public.positive,
    t_address public.address,
    t_home public.home,
    t_int_array int4[],
    t_text_array text[],
    t_cube int4[][][],
    t_mood_array public.mood[],
    t_odd_mood_array "Odd ""Schema"" ü"."Mood"[],
    t_domain_array public.short_text[],
    t_address_array public.address[],
    t_json_array jsonb[],
    t_timestamptz_array timestamptz[],
    t_numeric_array numeric[],
    t_range_array int4range[],
    t_citext ext.citext,
    t_citext_array ext.citext[],
    t_hstore "Odd ""Schema"" ü".hstore,
    t_ltree ext.ltree,
    t_ltree_array ext.ltree[]
);
insert into public.every_type (id) values (1);
insert into public.every_type values (
    2, true, 32767, 2147483647, 9223372036854775807, 'NaN', '-0', 'NaN', 123456789012345678901234567890.0123456789,
    '12.34', E'line\nbreak\ttab\\back "q" ''s'' \\N ü 🐘', 'Z', 'varchar', 'pad', 'x', 'a name', '\x00ff5c27', b'10101',
    b'1', 'infinity', '24:00:00', '12:00:00+14:59', 'infinity', '-infinity', '178000000 years 11 mons -3 days 04:05:06.789',
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '192.168.1.5/24', '2001:db8::/32', '08:00:2b:01:02:03',
    '08:00:2b:01:02:03:04:05', '{"b": 1,  "a": [null, 2],"b":3}', '{"b": 1, "a": [null, 1e400], "ü": "\u0001"}',
    '$.a[*] ? (@ > 1)', '<a b="1"><!-- c -->text</a>', $$'a fat':1A 'cat''s':2,3B$$, $$'fat' & ( 'cat':AB | !'do''g' )$$,
    '(1e-300,-0)', '{1,-1,0.1}', '[(0,0),(1e10,1)]', '((1,1),(0,0))', '[(0,0),(1,1)]', '((0,0),(1,1),(1,0))', '<(1,2),0>',
    4294967295, 'public.every_type', 'public.mood', 'pg_catalog.lower(text)', 'shop_owner', 'FFFFFFFF/FFFFFFFF',
    '10:20:10,14,15', '(4294967295,65535)', '[,5)', '(1.5,]', 'empty', '["2020-01-01 00:00+01",infinity]',
    '[-infinity,2000-01-01)', '{[1,3),[5,7),[9,)}', '{}', '(1.1,2.2]', 'so, so', 'B', 'domain', 'NaN',
    row('1 "High" St, back\slash', 'AB 1', '(1,2)', '{sad,"so, so",NULL}'), row('', null, null, '{}'),
    '{}', '{NULL,"NULL","",a\\b,"{x}","q\"q"}', '[-1:0][2:3][0:0]={{{1},{NULL}},{{3},{4}}}',
    '{"glad \"quoted\"",NULL,ö}', '{a,B}', '{x,NULL}',
    array[row('a', 'b', '(0,0)', null)::public.address, null, row('"', '\', null, '{"so, so"}')::public.address],
    array['{"a": null}'::jsonb, null], '{infinity,-infinity,"4713-01-01 00:00:00 BC"}', '{NaN,0.10,1e100}',
    '{empty,"[1,2)",NULL}', 'CiText', '{A,b}', '"a"=>"1", "b"=>NULL, "c,\"d\""=>""', 'Top.Science.x_1', '{a.b,NULL}'
);
insert into public.every_type (
    id, t_bool, t_int2, t_int4, t_int8, t_float4, t_float8, t_numeric, t_money, t_text, t_char, t_byte, t_bytea, t_varbit,
    t_date, t_time, t_timetz, t_timestamp, t_timestamptz, t_interval, t_inet, t_json, t_jsonb, t_text_array, t_citext, t_hstore,
    t_ltree, t_oid, t_regclass, t_positive, t_name, t_varchar, t_tsvector, t_domain
) values (
    3, false, -32768, -2147483648, -9223372036854775808, '-Infinity', 'Infinity', ('-' || repeat('9', 400) || '.' || repeat('7', 100))::numeric,
    '-92233720368547758.08', '', '', '', '', b'', '4713-01-01 BC', '00:00', '00:00:00-14:59', '4713-01-01 00:00:00 BC',
    '294276-12-31 23:59:59.999999+00', '-1 mons +1 day -00:00:00.000001', '::ffff:1.2.3.4/128', 'null', 'null', '{}', '', '', '', 0, 0,
    1e-20, '', '', '', ''
);
insert into public.every_type (id, t_float4, t_float8, t_numeric, t_numeric_scaled, t_text, t_char, t_bytea, t_bit, t_jsonb, t_xml)
values (4, 1.1, 5e-324, 'NaN', 'NaN', repeat('long ', 20000), E' a\t', decode(repeat('deadbeef00', 30000), 'hex'), b'00000', '0.10', 'plain text'),
    (5, 'Infinity', 1.7976931348623157e308, 1e-200, -0.0000000001, E'\u00A0 \u2028 \uFEFF e\u0301 \u00e9', null, null, null, '[]', null);

create table public.model (a int, gone text, b "Odd ""Schema"" ü"."Mood");
alter table public.model drop gone, add c numeric, replica identity full;
create table public.more_types (
    id int primary key,
    t_numeric numeric,
    t_float4 float4,
    t_bpchar bpchar,
    t_refcursor refcursor,
    t_xid xid,
    t_xid8 xid8,
    t_cid cid,
    t_int2vector int2vector,
    t_oidvector oidvector,
    t_aclitem aclitem,
    t_regnamespace regnamespace,
    t_regconfig regconfig,
    t_regdictionary regdictionary,
    t_regoperator regoperator,
    t_regcollation regcollation,
    t_interval interval,
    t_cube twin.cube,
    t_isbn "Odd ""Schema"" ü".isbn13,
    t_isbn_array "Odd ""Schema"" ü".isbn13[],
    t_shrunk public.shrunk,
    t_shrunk_array public.shrunk[],
    t_model public.model,
    t_mood_span public.mood_span,
    t_span_multirange public.multispan,
    t_short_texts public.short_texts,
    t_plain_text public.plain_text,
    t_multirange_array datemultirange[],
    t_point_array point[],
    t_composite_cube public.address[][]
);
insert into public.more_types values (
    1, 'Infinity', '-0', 'kept   ', 'cursor', '4294967295', '18446744073709551615', '7', '1 2 3', '4 5',
    'shop_app=r*w/dba', 'twin', 'pg_catalog.simple', 'pg_catalog.simple', 'pg_catalog.+(integer,integer)',
    'public.by_code', '-178000000 years', '(1, 2.5, -3),(4, 5, 6)', '978-0-393-04002-9', '{978-0-393-04002-9,NULL}',
    row(1, row('s', 'z', null, '{sad}')::public.address, '{"[1,2)",NULL}', 'late'),
    array[row(null, null, '{}', '')::public.shrunk, null], row(1, 'B', 'NaN'), '["so, so","glad \"quoted\""]',
    '{[1.5,2),[3,)}', '{a,NULL}', 'its own', '{"{[2020-01-01,2020-02-01)}","{}",NULL}', '{"(1,2)",NULL}',
    array[[row('a', 'b', null, null)::public.address, null], [null, row(null, null, null, null)::public.address]]
), (2, '-Infinity', 'NaN', '', '', '3', '0', '0', '', '', null, 'pg_catalog', null, null, null, 'pg_catalog."C"',
    '-178956970 years -2147483647 days -04:05:06.789', '()', null, '{}', null, '{}', null, 'empty', '{}', '{}',
    '', '{}', '{}', '{}');
do $$
begin
    if current_setting('server_version_num')::int >= 170000 then
        insert into public.more_types (id, t_interval) values (3, 'infinity'), (4, '-infinity');
    end if;
end
$$;

-- Tables.

create table public.computed (
    id int generated always as identity (start with 10 increment by 10) primary key,
    a int not null default 3,
    gone int,
    b int default 4,
    "sum" int generated always as (a + b) stored,
    gone_too text default 'x',
    late text default 'late'
);
insert into public.computed (a, b, gone) select n, n * n, n from generate_series(1, 20) as n;
alter table public.computed drop gone, drop gone_too, add added timestamptz default '2001-02-03 04:05:06+00', add twice text generated always as (late || late) stored;
insert into public.computed (a) values (99);

do $$
begin
    if current_setting('server_version_num')::int >= 180000 then
        execute 'alter table public.computed add doubled int generated always as (a * 2) virtual';
        execute 'create table public.open_on (place int, during daterange, note text, primary key (place, during without overlaps))';
        execute 'create table public.stay (id int primary key, place int, during daterange,
            foreign key (place, period during) references public.open_on (place, period during))';
        execute 'create table public.pointer (id int primary key, up int references public.pointer not enforced)';
        execute $sql$insert into public.open_on values
            (1, '[2024-01-01,2024-02-01)', 'a'), (1, '[2024-02-01,2024-03-01)', 'b'), (1, '[2024-05-01,)', 'c')$sql$;
        execute $sql$insert into public.stay values (1, 1, '[2024-01-15,2024-02-15)'), (2, 2, null), (3, 1, '[2024-06-01,2024-07-01)')$sql$;
        execute 'insert into public.pointer values (1, 404), (2, 1)';
    end if;
end
$$;
create table public.numbered (id bigint generated by default as identity primary key, note text);
insert into public.numbered (note) select 'note ' || n from generate_series(1, 50) as n;
create table public.no_columns ();
alter table public.no_columns replica identity full;
insert into public.no_columns select from generate_series(1, 3);
create table public.emptied (a int, b int);
alter table public.emptied drop a, drop b;
alter table public.emptied replica identity full;
insert into public.emptied default values;

create table public."order" ("select" int primary key, "from" text, "Größe" numeric, "a ""b""" text, " " text, "x
y" text);
insert into public."order" select n, 'from', n / 7.0, 'q', ' ', 'nl' from generate_series(1, 10) as n;
create table "Odd ""Schema"" ü"."new
line" (id int primary key, note text);
insert into "Odd ""Schema"" ü"."new
line" values (1, 'x'), (2, 'y');
create table "Odd ""Schema"" ü"."abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz01234567890" (id int primary key, note text);
insert into "Odd ""Schema"" ü"."abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz01234567890" values (1, 'long');
create table "Odd ""Schema"" ü"."a.b'c\d;--" (id int primary key, note text);
insert into "Odd ""Schema"" ü"."a.b'c\d;--" values (1, '\. $1 :x');
create table twin.numbered (id int primary key, other text);
insert into twin.numbered select n, 'twin ' || n from generate_series(1, 10) as n;

create table public.by_range (id int, at date not null, note text, primary key (id, at)) partition by range (at);
create table public.by_range_1 partition of public.by_range for values from (minvalue) to ('2020-01-01');
create table twin.by_range_2 partition of public.by_range for values from ('2020-01-01') to ('2021-01-01') partition by hash (id);
create table twin.by_range_2a partition of twin.by_range_2 for values with (modulus 2, remainder 0);
create table twin.by_range_2b partition of twin.by_range_2 for values with (modulus 2, remainder 1);
create table public.by_range_rest (note text, at date not null, gone int, id int);
alter table public.by_range_rest drop gone, alter id set not null;
alter table public.by_range attach partition public.by_range_rest default;
create index by_range_note on public.by_range (note);
insert into public.by_range select n, '2019-06-01'::date + n * 20, 'n' || n from generate_series(1, 60) as n;
create table public.by_list (id int, kind public.mood, note text) partition by list (kind);
create table public.by_list_1 partition of public.by_list for values in ('sad', null);
create table public.by_list_2 partition of public.by_list default;
alter table public.by_list_1 replica identity full;
alter table public.by_list_2 replica identity full;
insert into public.by_list values (1, 'sad', 'a'), (2, null, 'b'), (3, 'ö', 'c'), (3, 'ö', 'c');

create table public.parent (id int primary key, note text);
create table public.child (extra int, primary key (id)) inherits (public.parent);
create table public.grandchild (primary key (id)) inherits (public.child);
insert into public.parent values (1, 'parent'), (2, 'parent');
insert into public.child values (1, 'child', 1), (3, 'child', 3);
insert into public.grandchild values (4, 'grandchild', 4);

create table public.other_parent (id int, other text);
alter table public.other_parent replica identity full;
create table public.of_both (own int) inherits (public.grandchild, public.other_parent);
alter table public.of_both add primary key (id);
insert into public.of_both (id, note, extra, other, own) values (5, 'both', 5, 'other', 5);
create table public.typed of public.address (primary key (street));
insert into public.typed values ('street', 'zip', '(1,2)', '{sad}');
create table public."ÄÖÜäöüß漢字🐘ÄÖÜäöüß漢字🐘é漢字🐘éa" ("ÄÖÜäöüß漢字🐘ÄÖÜäöüß漢字🐘é漢字🐘éa" int primary key, "desc" text);
insert into public."ÄÖÜäöüß漢字🐘ÄÖÜäöüß漢字🐘é漢字🐘éa" values (1, 'Unicode'), (2, null);

create unlogged table public.cache (id int primary key, note text);
insert into public.cache values (1, 'lost in a crash');

create table public.tree (id int primary key, parent int references public.tree, note text);
insert into public.tree values (1, null, 'root'), (2, 1, 'a'), (3, 2, 'b');
create table public.hen (id int primary key, egg int not null);
create table public.egg (id int primary key, hen int not null references public.hen deferrable initially deferred);
alter table public.hen add constraint hen_egg foreign key (egg) references public.egg on delete cascade deferrable initially deferred;
begin;
insert into public.hen values (1, 1), (2, 2), (3, 3);
insert into public.egg values (1, 1), (2, 2), (3, 3);
commit;
create table public.place (id int primary key, place int unique deferrable initially immediate, check (place > 0) not valid);
insert into public.place values (1, 1), (2, 2), (3, 3);
create table public.booking (
    id int primary key, room int, during tsrange, exclude using gist (room with =, during with &&) where (room > 0)
);
insert into public.booking values (1, 1, '[2020-01-01,2020-01-02)'), (2, 1, '[2020-01-02,2020-01-03)'), (3, -1, null);

create table public.secret (id int primary key, owner name, note text);
insert into public.secret values (1, 'shop_app', 'mine'), (2, 'dba', 'not mine');
alter table public.secret enable row level security;
alter table public.secret force row level security;
create policy own on public.secret to shop_app using (owner = current_user) with check (owner = current_user);
create policy nobody on public.secret as restrictive for delete using (false);
grant select, insert, update on public.secret to shop_app;

create table public.guarded (id int primary key, note text, stamp timestamptz);
create table public.guard_log (id bigint generated always as identity primary key, what text);
create function public.guard() returns trigger language plpgsql as $$
begin
    new.note := 'guarded ' || coalesce(new.note, '');
    new.stamp := clock_timestamp();
    insert into public.guard_log (what) values (tg_op);
    return new;
end
$$;
create trigger guard before insert or update on public.guarded for each row execute function public.guard();
insert into public.guarded (id, note) values (1, 'a'), (2, 'b');
create trigger off before delete on public.guarded for each row execute function public.guard();
alter table public.guarded disable trigger off;
create table public.ruled (id int primary key, note text);
insert into public.ruled values (1, 'a'), (2, 'b'), (3, 'c');
create rule also as on update to public.ruled do also insert into public.guard_log (what) values ('rule');
create rule never as on delete to public.ruled do instead nothing;

create table public.whole (a int, b text, c float8);
alter table public.whole replica identity full;
insert into public.whole values (1, 'x', '-0'), (1, 'x', '-0'), (2, null, 'NaN'), (null, null, null);
create table public.by_index (a int not null, b text not null, note text);
create unique index by_index_ab on public.by_index (b, a);
alter table public.by_index replica identity using index by_index_ab;
insert into public.by_index select n, 'b' || n, 'n' from generate_series(1, 10) as n;
create table public.full_with_key (id int primary key, big text, note text);
alter table public.full_with_key alter big set storage external, replica identity full;
insert into public.full_with_key select n, repeat('x', 10000), 'n' || n from generate_series(1, 5) as n;
create table public.toasted (id int primary key, big text, other text, note text) with (fillfactor = 50, autovacuum_enabled = off);
alter table public.toasted alter big set storage external, alter note set statistics 500;
insert into public.toasted select n, repeat(n::text, 20000), repeat('y', 3000), 'n' || n from generate_series(1, 5) as n;

-- Sequences.

create sequence public.alone start 100 increment 7 cache 5;
select nextval('public.alone'), nextval('public.alone');
create sequence public.downward increment -3 minvalue -10 maxvalue 10 start 10 cycle;
select nextval('public.downward'), nextval('public.downward');
create sequence public.near_end as bigint start 9223372036854775800;
select nextval('public.near_end');
create sequence public.never_used as smallint;
create sequence "Odd ""Schema"" ü"."Seq ""q""";
select setval('"Odd ""Schema"" ü"."Seq ""q"""', 77, false);
create table public.sharing_1 (id int default nextval('public.alone') primary key, note text);
create table public.sharing_2 (id int default nextval('public.alone') primary key, note text);
insert into public.sharing_1 (note) values ('a'), ('b');
insert into public.sharing_2 (note) values ('c');
create table public.serials (id serial primary key, other bigserial);
insert into public.serials select from generate_series(1, 5);

-- What is not a table.

create server elsewhere foreign data wrapper postgres_fdw options (host '127.0.0.1', dbname 'nowhere');

create function public.add_up(int, int) returns int language sql immutable begin atomic; select $1 + $2; end;
create function public."Quoted ""fn"""(variadic text[]) returns text language sql as $$ select array_to_string($1, ';') $$;
create procedure public.noop() language plpgsql as $$ begin null; end $$;
create aggregate public.sum_up(int) (sfunc = public.add_up, stype = int, initcond = '0');
create aggregate public."count up()"(*) (sfunc = int8inc, stype = bigint, initcond = '0');
create aggregate public.ordered(float8 order by anyelement) (sfunc = ordered_set_transition, stype = internal, finalfunc = percentile_disc_final, finalfunc_extra);
revoke execute on routine public."count up()"() from public;
create operator public.|+| (leftarg = int, rightarg = int, function = public.add_up);
create cast (public.mood as int) with inout;
create text search configuration public.plain (copy = pg_catalog.simple);
create text search dictionary public.few_words (template = pg_catalog.simple, stopwords = english);
create text search template public.template (lexize = dsimple_lexize, init = dsimple_init);
create text search parser public.parser (
    start = prsd_start, gettoken = prsd_nexttoken, end = prsd_end, lextypes = prsd_lextype, headline = prsd_headline
);
create operator family public.ints using btree;
create operator class public.int_order for type int using btree family public.ints as
    operator 1 <, operator 2 <=, operator 3 =, operator 4 >=, operator 5 >, function 1 btint4cmp(int, int);
create conversion public.to_latin for 'UTF8' to 'LATIN1' from utf8_to_iso8859_1;
create access method heap_again type table handler heap_tableam_handler;
create table public.on_its_method (id int primary key, note text) using heap_again;
insert into public.on_its_method values (1, 'x');
create transform for int language sql (from sql with function prsd_lextype(internal), to sql with function int4recv(internal));
create foreign data wrapper nothing;
create statistics public.order_stats (dependencies) on "from", "Größe" from public."order";
create view public.numbers as select id, note from public.numbered where id > 3 with check option;
create view public.secrets with (security_barrier) as select * from public.secret;
create recursive view public.branches (id, depth) as
    select id, 0 from public.tree where parent is null
    union all select t.id, b.depth + 1 from public.tree as t join branches as b on b.id = t.parent;
create materialized view public.counted as select count(*) as n, max(id) as top from public.numbered;
create materialized view public.counted_again as select n + 1 as more from public.counted;
create unique index counted_n on public.counted (n);
create materialized view public.unfilled as select 1 as one with no data;
create function public.on_ddl() returns event_trigger language plpgsql as $$ begin null; end $$;
create event trigger watching on ddl_command_end when tag in ('CREATE OPERATOR') execute function public.on_ddl();
comment on table public."order" is 'an order''s "comment"';
comment on column public."order"."x
y" is 'odd column';
comment on constraint hen_egg on public.hen is 'comes late';
comment on function public.add_up(int, int) is 'adds';
comment on schema twin is E'two\nlines';
grant select (id, note), update (note) on public.toasted to shop_app;
grant select on public.numbers, public.counted to shop_app with grant option;
grant usage, select on sequence public.alone to shop_app;
grant usage on type public.mood to shop_app;
grant usage on foreign server elsewhere to shop_app;
grant usage on foreign data wrapper nothing to shop_app;
grant execute on function pg_catalog.pg_ls_waldir() to shop_app;
revoke execute on function pg_catalog.pg_jit_available() from public;
grant select on pg_catalog.pg_statistic to shop_app;
revoke connect on database shop from public;
grant connect on database shop to shop_app;
grant temporary on database shop to shop_limited;
revoke execute on function public.add_up(int, int) from public;
grant execute on function public.add_up(int, int) to shop_app;
alter default privileges for role shop_owner in schema public grant select on tables to shop_app;
alter default privileges for role shop_owner revoke execute on functions from public;
grant create on schema public to shop_limited;
alter table public.toasted owner to shop_owner;
alter function public.add_up(int, int) owner to shop_owner;
alter schema twin owner to shop_owner;
create user mapping for shop_app server elsewhere options (user 'u', password 'p');
create foreign table public.remote (id int, note text) server elsewhere options (table_name 'remote');
create publication theirs for table public.numbered;
create subscription theirs connection 'host=127.0.0.1 port=1 dbname=nowhere' publication nothing with (connect = false, slot_name = none);
select lo_from_bytea(424242, '\xdeadbeef'), lo_from_bytea(4711, '\xdeadbeef');
alter database shop set lock_timeout = '12345ms';
alter database shop set search_path = public, twin, "Odd ""Schema"" ü";
alter role shop_app in database shop set work_mem = '9MB';
alter role shop_limited set deadlock_timeout = '7s';
alter role shop_limited set lock_timeout = '7s';

-- Changes every row of every table, inserts and deletes some. Can be called again and again, on either side.

create procedure public.churn(turn int) language plpgsql set search_path = '' as $churn$
declare
    target record;
begin
    for target in
        select
            format('%I.%I', n.nspname, c.relname) as name,
            string_agg(format('%1$I = w.%1$I', a.attname), ', ') as moves
        from pg_catalog.pg_class as c
        join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        where c.relname in ('every_type', 'more_types', 'computed', 'numbered', 'full_with_key', 'toasted', 'guarded', 'parent', 'child')
            and c.relkind = 'r' and a.attname <> 'id' and a.attgenerated = '' and a.attname <> 'big'
        group by 1
        order by 1
    loop
        -- Each row takes the values of the next one.
        execute format(
            'with w as (select *, coalesce(lead(id) over (order by id), min(id) over ()) as next from only %s) '
            'update only %s as t set %s from w where w.next = t.id', target.name, target.name, target.moves
        );
    end loop;
    insert into public.every_type (id, t_text, t_address_array, t_hstore, t_float8, t_numeric)
    select 100 + turn, t_text, t_address_array, t_hstore, '-0', 'NaN' from public.every_type where id = 2;
    update public.every_type set t_text = t_text || ' more ' || turn where id in (1, 4);
    update public.toasted set big = big || turn where id = 3;
    update public.toasted set id = id + 1000 where id = 4;
    update public.toasted set id = id - 1000 where id = 1004 and turn > 1;
    insert into public.computed (a, b, late) values (turn, 7, 'turn');
    delete from public.computed where a = 5 + turn;
    insert into public.numbered (note) values ('turn ' || turn);
    delete from public.numbered where id = 5 + turn;
    insert into public.no_columns default values;
    insert into public.emptied default values;
    update public."order" set "from" = "from" || turn, "x
y" = E'\n', "Größe" = "Größe" * 3;
    delete from public."order" where "select" = turn;
    update "Odd ""Schema"" ü"."new
line" set note = note || turn;
    insert into "Odd ""Schema"" ü"."abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz01234567890" values (turn + 1, 'turn');
    update "Odd ""Schema"" ü"."a.b'c\d;--" set note = note || E'\\' || turn;
    update twin.numbered set other = other || turn where id > 3;
    update public.by_range set note = note || turn, at = at + 200;
    insert into public.by_range values (1000 + turn, '2018-01-01', 'old'), (1000 + turn, '2020-05-05', 'middle');
    delete from public.by_range where id = turn;
    update public.by_list set note = note || turn where id < 3;
    update public.by_list set kind = case when kind = 'sad' then 'ö' else 'sad' end::public.mood where id = 1;
    delete from public.by_list where ctid in (select max(ctid) from public.by_list_2) and turn = 1;
    insert into public.by_list values (10 + turn, 'so, so', null);
    update public.parent set note = note || turn;
    insert into public.grandchild values (100 + turn, 'new', turn);
    insert into public.cache values (100 + turn, 'not followed');
    insert into public.of_both (id, note, other) values (200 + turn, 'new', 'turn');
    update public.other_parent set other = other || turn;
    update public.typed set "Zip Code" = 'z' || turn;
    update public."ÄÖÜäöüß漢字🐘ÄÖÜäöüß漢字🐘é漢字🐘éa" set "desc" = coalesce("desc", '') || turn;
    update public.on_its_method set note = note || turn;
    update public.tree set parent = 3 where id = 1;
    insert into public.tree values (10 + turn, 10 + turn, 'own parent');
    if to_regclass('public.stay') is not null then
        execute format($sql$
            insert into public.stay values (%1$s, 1, '[2024-01-31,2024-02-02)');
            update public.stay set during = daterange('2024-06-01', '2024-06-01'::date + %1$s) where id = 3;
            update public.open_on set note = note || '%1$s';
            insert into public.open_on values (%1$s, '[2024-01-01,2024-02-01)', 'new');
            insert into public.pointer values (%1$s, 404);
            delete from public.pointer where id = %1$s - 1$sql$, 10 + turn);
    end if;
    insert into public.hen values (10 + turn, 10 + turn);
    insert into public.egg values (10 + turn, 10 + turn);
    delete from public.hen where id = turn and turn < 3;
    delete from public.egg where id = turn and turn < 3;
    set constraints all deferred;
    update public.place set place = case place when 1 then 2 when 2 then 1 else place end;
    update public.booking set room = room + 1 where id < 3;
    update public.secret set note = note || turn;
    insert into public.secret values (10 + turn, 'shop_app', 'new');
    update public.ruled set note = note || turn;
    update public.whole set b = coalesce(b, 'null') || turn where a = 2 or a is null;
    delete from public.whole where ctid = (select min(ctid) from public.whole where a = 1) and turn = 1;
    insert into public.whole values (turn, 'twice', 0), (turn, 'twice', 0);
    update public.by_index set note = note || turn, a = a + 100 where a < 5;
    delete from public.by_index where a = 5 + turn;
    update public.full_with_key set note = note || turn where id < 3;
    delete from public.full_with_key where id = 2 + turn and turn < 3;
    insert into public.sharing_1 (note) values ('turn');
    insert into public.sharing_2 (note) values ('turn');
    insert into public.serials default values;
    perform nextval('public.downward'), nextval('"Odd ""Schema"" ü"."Seq ""q"""');
end
$churn$;
