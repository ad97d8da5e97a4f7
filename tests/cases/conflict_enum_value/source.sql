alter type conflict_enum_value.state rename value 'old' to 'closed';
