create type public.mood as enum ('sad', 'ok');
create domain public.pos as int4 check (value > 0);
create type public.pair as (one int4, two text);
create schema "Od""d;";
create sequence public.free start 5 increment -2 minvalue -100 maxvalue 10 cycle;

create function public.f(x int4) returns int4 language sql
begin atomic
    select case when x > 1 then 1 else 2 end;
    select x + 1;
end;
create function public.touch() returns trigger language plpgsql as $$ begin new.t := new.t || ';'; return new; end; $$;

create table public.a (
    id int8 generated always as identity primary key,
    gone text,
    m public.mood,
    j jsonb,
    n numeric not null,
    g int8 generated always as (id * 2) stored,
    d public.pos,
    t text default 'x;''y',
    f8 float8,
    ts timestamptz,
    iv interval,
    b bytea,
    arr text[],
    moods public.mood[],
    c public.pair,
    r int4range,
    reg regclass,
    ch "char",
    bits varbit,
    money money
);
alter table public.a drop column gone;
alter table public.a add column self int8 references public.a deferrable initially deferred;

create table public.p (id int8, t text, primary key (id)) partition by range (id);
create table public.p1 partition of public.p for values from (0) to (1000);
create table public.p2 partition of public.p for values from (1000) to (2000) partition by list (id);
create table public.p2d partition of public.p2 default;
create index on public.p (t);

create table public."We""ird
name" (id serial primary key, "a;b" text unique deferrable initially deferred, "SELECT" int8 references public.a);
alter table public.a add column w int4;
alter table public.a add foreign key (w) references public."We""ird
name" not valid;
create table "Od""d;".child (id int8 primary key, p int8 references public.p, unique (id) include (p)) inherits (public.a);

create table public.big (id int8 not null, t text, toast text);
create unique index big_key on public.big (id);
create index big_t on public.big (pg_catalog.lower(t)) where id > 5;
alter table public.big replica identity using index big_key;
alter table public.big cluster on big_key;
alter table public.big alter toast set storage external;

create table public.none ();
create table public.onlygen (g int4 generated always as (1) stored);
create table public.e (c int4range, exclude using gist (c with &&));
create unlogged table public.u (n int4);
create statistics public.st on m, n from public.a;

create view public.v as select id, pg_catalog.count(*) as n from public.a group by id;
create view public.v2 as select a.* from public.a group by id;
create materialized view public.mv as select id, n, m from only public.a;
create unique index on public.mv (id);
create materialized view public.mv2 as select pg_catalog.count(*) as n from public.mv;
create materialized view public.mv0 as select 1 as one with no data;
create rule r as on update to public.v do instead (insert into public.a (n) values (1); delete from public.a where false);
create trigger t before insert or update on public.a for each row execute function public.touch();
create trigger t0 before update on public.p for each row execute function pg_catalog.suppress_redundant_updates_trigger();
alter table public.a disable trigger t;

comment on table public.a is 'hi; there -- x
\restrict';
comment on index public.a_pkey is 'key';
comment on constraint a_self_fkey on public.a is 'self';
alter table public.a enable row level security;
create policy po on public.a to bob, carol using (true);
alter table public.e owner to bob;
grant select on public.a to bob with grant option;
grant update (n) on public.a to carol;
set role bob;
grant select on public.a to carol;
reset role;
alter default privileges for role bob grant select on tables to carol;
alter table public.a add constraint lax check (n > -1000000) not valid;

insert into public.a (m, j, n, d, f8, ts, iv, b, arr, moods, c, r, reg, ch, bits, money, t)
select
    case when g % 3 = 0 then null else 'ok' end::public.mood,
    pg_catalog.jsonb_build_object('k', g, 'text', E'tab\tnew\nline\\'),
    case g % 4 when 0 then 'NaN'::numeric when 1 then g / 7.0 else 1e-20 * g end,
    g,
    case g % 5 when 0 then 'Infinity'::float8 when 1 then '-0'::float8 else pg_catalog.random() end,
    case g % 6 when 0 then 'infinity'::timestamptz when 1 then '4713-01-01 BC'::timestamptz else pg_catalog.now() end,
    pg_catalog.make_interval(months => -g, secs => g / 3.0),
    pg_catalog.decode('00ff5c0a', 'hex'),
    array['a', null, '', 'q"uote', '{}'],
    array['sad', null]::public.mood[],
    row(g, E'x,\t"'::text)::public.pair,
    pg_catalog.int4range(g, g + 5),
    'public.p'::pg_catalog.regclass,
    'x',
    g::bit(12),
    g::numeric::money,
    case g % 7 when 0 then '' when 1 then null else 'grüße ' || g end
from pg_catalog.generate_series(1, 1000) as g;
update public.a set self = id - 1 where id > 1;
insert into public.p select g, 'row ' || g from pg_catalog.generate_series(0, 1999) as g;
insert into public."We""ird
name" ("a;b", "SELECT") select 'v' || g, g from pg_catalog.generate_series(1, 50) as g;
update public.a set w = 1 + id % 50;
insert into "Od""d;".child (id, n, p) overriding system value select g, g, g from pg_catalog.generate_series(1, 20) as g;
insert into public.big
select g, 'T' || g, case when g % 500 = 0 then pg_catalog.repeat(pg_catalog.md5(g::text), 3000) end
from pg_catalog.generate_series(1, 30000) as g;
delete from public.big where id % 10 = 3;
insert into public.none default values;
insert into public.none default values;
insert into public.onlygen default values;
insert into public.e values ('[1,3)'), ('[5,9)');
insert into public.u values (1);
refresh materialized view public.mv;
refresh materialized view public.mv2;
select pg_catalog.nextval('public.free');

create function public.et() returns event_trigger language plpgsql as $$ begin end; $$;
create event trigger et on ddl_command_end execute function public.et();
