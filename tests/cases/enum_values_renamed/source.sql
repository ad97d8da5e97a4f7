alter type enum_values_renamed.state rename value 'new' to 'open';
alter type enum_values_renamed.state add value 'lost' before 'gone';
