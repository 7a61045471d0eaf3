"""Studies, reports and images: from raw data to tensors."""
