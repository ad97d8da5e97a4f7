alter table columns_dropped.customers drop fax, drop pager;
