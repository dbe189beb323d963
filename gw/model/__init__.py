"""Resources of the data model, under APISIX's names. No I/O: values in, values out."""
