alter table domain_dropped.items alter id type bigint, alter amount type bigint, alter name type varchar(9);
alter table domain_dropped.items add doubled bigint;
update domain_dropped.items set doubled = amount * 2;
drop domain domain_dropped.tiny, domain_dropped.positive, domain_dropped.short;
