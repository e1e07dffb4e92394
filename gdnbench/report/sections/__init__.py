"""Sections of the page: analysed records to text, notices, tables and figures; every sentence is made from numbers."""
