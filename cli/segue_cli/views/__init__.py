"""How results look in a terminal: text, tables, JSON."""
